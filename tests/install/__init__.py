"""The installer: which torch it takes, from real indexes with small wheels."""
