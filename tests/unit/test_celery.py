"""The module for Celery, in a process of its own: Celery's signals are the whole process's."""

import os
import subprocess
import sys

from tests.redis_fixture import PrivateRedis
from tests.servers import PYTHON_PATH


def said(script: str, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": PYTHON_PATH, **env},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_celery_a_sentence_says_what_is_missing() -> None:
    script = """
import sys
sys.modules["celery"] = None
try: import mintflow_realtime.celery
except ImportError as error: print(error)
"""
    assert said(script) == "mintflow_realtime.celery needs Celery: pip install celery\n"


PROJECT = """
import logging, os
from celery import Celery
from mintflow_realtime import Emitter
from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.celery import current_run, follow
from mintflow_realtime.protocol.runs import ListRuns
logging.basicConfig(format="%(message)s", handlers=[logging.StreamHandler(__import__("sys").stdout)])
logging.getLogger("kombu").setLevel("CRITICAL")
app, other = (Celery(name, broker="memory://", set_as_current=False) for name in ("app", "other"))
emit = Emitter(os.environ["EVENTS"], config={"MINTFLOW_REDIS_PREFIX": "celery-unit"})
def refused(**given):
    try: follow(app, emit, **{"tenant": "acme", **given})
    except Exception as error: print(type(error).__name__, error)
refused(tenant="a b")
refused(lease=4)
refused(flow="invoices")
follow(app, emit, "acme", flow=lambda name: {"good": "g", "none": None}[name])
refused()
for one in (app, other):
    one.conf.task_always_eager = True
def task(name, of=app):
    def run():
        run = current_run()
        with run.node("n") as node:
            run.progress(1); run.check(); list(run.signals(0))
            return run.run_id
    return of.task(run, name=name)
for name, of in (("good", app), ("none", app), ("bad", app), ("good", other)):
    first, again = task(name, of).delay(), task(name, of).delay()
    print(name, first.state, first.get() == first.id, again.state)
@current_run()
def function(): return "unchanged"
print(function())
@current_run().node("n")
def function(): return "unchanged"
print(function())
for run in emit.flows.runs(Principal.system("acme"), ListRuns()).runs:
    print(run.flow_id, run.status)
"""


def test_it_refuses_what_is_wrong_at_once_and_fails_no_task(shared_redis: PrivateRedis) -> None:
    lines = said(PROJECT, EVENTS=shared_redis.url).splitlines()
    assert [line.split(" ", 1)[0] for line in lines[:4]] == [
        "InvalidPayload",
        "InvalidPayload",
        "TypeError",
        "ValueError",
    ]
    assert "$.tenant" in lines[0] and "$.lease" in lines[1] and lines[2].endswith("not str")
    assert lines[4:] == [
        "good SUCCESS True SUCCESS",
        "none SUCCESS False SUCCESS",
        "the task bad is no run, as its flow can't be told: KeyError: 'bad'",
        "bad SUCCESS False SUCCESS",
        "good SUCCESS False SUCCESS",
        "unchanged",
        "unchanged",
        "g completed",
        "g completed",
    ]
