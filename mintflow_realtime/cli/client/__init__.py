"""A small blocking Socket.IO client: what `check URL`, `tail --url` and `watch --url` speak with a server."""
