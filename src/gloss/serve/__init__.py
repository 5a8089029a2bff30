"""The server: an HTTP API over loaded NLAs, with one scheduler for all clients."""
