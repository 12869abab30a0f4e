"""Text of a corpus: files and folders, or the hub → a stream of documents."""
