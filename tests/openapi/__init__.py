"""The document: a linter, a TypeScript client and schemathesis, each against the whole service."""
