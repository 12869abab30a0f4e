"""One program per group of promises; each prints a table, then a JSON line per promise."""
