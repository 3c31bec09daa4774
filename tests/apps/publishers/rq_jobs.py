"""An RQ project: its Emitter is made at import; each job runs in a process that the worker forks."""

import os

from mintflow_realtime import Emitter

emit = Emitter(os.environ["REDIS_URL"])


def read_invoice(number: int) -> None:
    emit.logs.append("default", message=f"invoice {number}", metadata={"process": os.getpid()})
