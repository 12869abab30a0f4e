"""The bundled language model: its text, its training, its files."""
