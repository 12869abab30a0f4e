"""The live worker: its parts, and the real process over HTTP."""
