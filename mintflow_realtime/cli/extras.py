"""What the command line needs beside the bare package. Standard library only."""

NEEDS = "the command line needs {}: pip install 'mintflow-realtime[server]'"
