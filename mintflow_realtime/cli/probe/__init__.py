"""`mintflow check URL`: what happens to a client's requests on their way to the server."""
