"""WebSockets by RFC 6455."""
