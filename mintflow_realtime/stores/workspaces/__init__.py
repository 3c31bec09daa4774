"""The states of workspaces and their versions."""
