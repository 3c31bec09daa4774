"""One gunicorn worker: its life, its drain, and which worker a session belongs to.

`Worker` is the class, `worker_class = "mintflow_realtime.transport.worker.Worker"`.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    # Only who asks for it: the rest of this package is used without gunicorn too.
    if name == "Worker":
        from mintflow_realtime.transport.worker.gunicorn_worker import Worker

        return Worker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
