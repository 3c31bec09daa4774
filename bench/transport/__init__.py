"""One server on one machine: what its transport costs. `python -m bench.transport --help`."""
