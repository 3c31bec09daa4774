"""Flask blueprints: health and the HTTP API."""
