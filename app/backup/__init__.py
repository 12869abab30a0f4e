"""Backups: save writes one, restore puts it back; snapshot copies the databases, archive packs."""
