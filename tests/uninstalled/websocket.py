"""Not there for a server: see tests/servers.py."""

raise ModuleNotFoundError("No module named 'websocket'", name="websocket")
