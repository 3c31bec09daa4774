"""The console: a page of ES modules that shows what the public wire and API tell. Nothing of it is built."""

CONSOLE_BLUEPRINT = "mintflow_console"
CLIENT_BLUEPRINT = "mintflow_client"
