"""The loops that a node lives by: started in one place, and ended by nothing but the node's own end."""

import logging
from collections.abc import Callable
from typing import Any

import gevent

from mintflow_realtime.protocol.errors import Unavailable
from mintflow_realtime.protocol.rare_log import RareLog

# What fails at once, each time, is tried again so often.
AGAIN_SECONDS = 0.2

_rare = RareLog(logging.getLogger("mintflow.loops"))


def start_loop(name: str, step: Callable[[], Any], pause: Callable[[], Any] | float) -> "gevent.Greenlet[..., None]":
    """Run `step` and `pause` in turn until the greenlet is killed, whatever they raise.

    `pause` is a number of seconds, or what waits. An error is logged once a minute, with `name`; Redis being away is
    not, since `/readyz` tells of it.
    """
    wait = pause if callable(pause) else _sleep(pause)
    return gevent.spawn(_go_on, name, step, wait)


def _sleep(seconds: float) -> Callable[[], None]:
    return lambda: gevent.sleep(seconds)


def _go_on(name: str, step: Callable[[], Any], wait: Callable[[], Any]) -> None:
    while True:
        try:
            step()
            wait()
        except gevent.GreenletExit:
            raise
        except Unavailable:
            _wait_at_least(name, wait)
        # A Timeout that somebody let through is no Exception.
        except BaseException as error:
            _rare.warning(f"{name} failed and goes on", error=error)
            _wait_at_least(name, wait)


def _wait_at_least(name: str, wait: Callable[[], Any]) -> None:
    gevent.sleep(AGAIN_SECONDS)
    try:
        wait()
    except gevent.GreenletExit:
        raise
    except BaseException as error:
        _rare.warning(f"{name} failed and goes on", error=error)
