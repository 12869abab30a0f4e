"""Jobs: the client, the checks, and real worker processes that are killed."""
