"""The Flask extension, one node put together, and gunicorn's configuration."""
