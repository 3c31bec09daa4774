"""HTTP connections: heads, bodies, and the handler of each request."""
