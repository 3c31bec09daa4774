"""A command that runs as a run of a flow: its process, its output, and how it is told."""
