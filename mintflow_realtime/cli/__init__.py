"""The command `mintflow`, and the same under `flask mintflow`: one file a command."""
