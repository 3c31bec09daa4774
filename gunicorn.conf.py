"""gunicorn's configuration of a checkout: what `-c python:mintflow_realtime.app.gunicorn` is to an application."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
# The application of a checkout has no settings but the environment's, so the master may see to its Redis by itself.
os.environ.setdefault("DATA_DIR", "./data")

from mintflow_realtime.app.gunicorn import *  # noqa: E402, F403
