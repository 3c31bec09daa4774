"""A Celery project whose tasks are runs: started by its worker, and by a sender that evaluates what it is told."""

import json
import logging
import os
import signal
import sys
import time
from typing import Any

from celery import Celery, chord, group
from celery.exceptions import Reject
from celery.signals import after_setup_logger, after_setup_task_logger
from celery.utils.log import get_task_logger

from mintflow_realtime import Emitter
from mintflow_realtime.celery import current_run, follow
from mintflow_realtime.log_handler import MintflowHandler

app = Celery("followed", broker=os.environ["BROKER"], backend=os.environ["BROKER"])
app.conf.update(broker_connection_retry_on_startup=True, worker_prefetch_multiplier=1)
emit = Emitter(os.environ["EVENTS"])
flows = {"f.mapped": "invoices", "f.unseen": None}
follow(app, emit, "acme", flow=flows, lease=5, terminate=bool(os.environ.get("TERMINATE")))
handler = MintflowHandler(emit.logs, "acme")
log = logging.getLogger("project")


@after_setup_logger.connect
@after_setup_task_logger.connect
def publish_what_is_logged(logger: logging.Logger, **_: Any) -> None:
    logger.addHandler(handler)


@app.task(name="f.add")
def add(one: int, other: int) -> int:
    return one + other


@app.task(name="f.total")
def total(numbers: list[int]) -> int:
    log.info("%d numbers", len(numbers))
    return sum(numbers)


@app.task(name="f.fail")
def fail() -> None:
    raise ValueError("broken é")


@app.task(name="f.flaky", bind=True, max_retries=5)
def flaky(self: Any, countdown: float) -> int:
    if self.request.retries < 2:
        raise self.retry(exc=KeyError("again"), countdown=countdown)
    return int(self.request.retries)


@app.task(name="f.until_cancelled")
def until_cancelled() -> None:
    while True:
        current_run().progress(1)
        time.sleep(0.05)


@app.task(name="f.forever")
def forever() -> None:
    time.sleep(600)


@app.task(name="f.asks")
def asks() -> Any:
    return next(iter(current_run().signals(20))).data


@app.task(name="f.dies")
def dies() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="f.dies_once", bind=True, acks_late=True, reject_on_worker_lost=True)
def dies_once(self: Any) -> None:
    if not self.request.delivery_info["redelivered"]:
        os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="f.too_slow", time_limit=0.5)
def too_slow() -> None:
    time.sleep(600)


@app.task(name="f.exits")
def exits() -> None:
    sys.exit(0)


@app.task(name="f.rejects", bind=True, acks_late=True)
def rejects(self: Any) -> None:
    raise Reject("unwanted", requeue=False)


@app.task(name="f.meets")
def meets(name: str) -> None:
    """Wait for the other one, so that both are at work at once."""
    met = emit.publisher._redis  # type: ignore[attr-defined]
    met.command("SADD", "met", name)
    while met.command("SCARD", "met") < 2:
        time.sleep(0.02)
    with current_run().node("table"):
        log.warning("%s is here", name)
    get_task_logger("f").info("%s goes", name)


@app.task(name="f.mapped")
def mapped() -> Any:
    return add.delay(1, 2).id


@app.task(name="f.unseen")
def unseen() -> None:
    with current_run() as run, run.node("n"):
        run.progress(1)


if __name__ == "__main__":
    here = {**globals(), "chord": chord, "group": group}
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(eval(line, here)), flush=True)
