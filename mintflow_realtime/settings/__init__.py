"""Settings: app.config, then the environment; each checked."""
