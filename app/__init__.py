"""The API process and everything that both processes agree on. Never imports torch or `worker`."""
