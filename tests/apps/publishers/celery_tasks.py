"""A Celery project: its Emitter is made at import, and used before and after the workers are forked."""

import os

from celery import Celery
from celery.signals import worker_init, worker_ready

from mintflow_realtime import Emitter

app = Celery("invoices", broker=os.environ["REDIS_URL"])
app.conf.broker_connection_retry_on_startup = True
emit = Emitter(os.environ["REDIS_URL"])


@worker_init.connect
def before_fork(**_: object) -> None:
    emit.logs.append("default", message="before the fork")


@worker_ready.connect
def after_fork(**_: object) -> None:
    emit.logs.append("default", message="after the fork")


@app.task
def read_invoice(number: int) -> None:
    emit.logs.append("default", message=f"invoice {number}", metadata={"process": os.getpid()})
