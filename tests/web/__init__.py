"""Pages in a real browser, and as plain HTTP."""
