"""`python -m mintflow_realtime.cli` is `mintflow`."""

from mintflow_realtime.cli.main import main

if __name__ == "__main__":
    main()
