"""Stopping without a loss: no new connections, sessions closed one after the other, handlers run, requests answered."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic

import gevent

from mintflow_realtime.transport.engine_io.server import EngineServer
from mintflow_realtime.transport.worker.server import Server

STEP_SECONDS = 0.05
# Who was accepted just before the drain has so long for the request that comes with it.
PATIENCE_SECONDS = 1.0

logger = logging.getLogger(__name__)


def drain(
    servers: Sequence[Server],
    engine: EngineServer,
    seconds: float,
    within: float,
    alive: Callable[[], object] = lambda: None,
) -> bool:
    """Let go of everybody: sessions over `seconds`, all of it in `within`. `alive` is called all the while.

    From the first moment new sessions are refused (503 on connections that are kept alive, and no others are taken).
    Returns whether every session's handlers ran and every request was answered in time.
    """
    end = monotonic() + within
    engine.draining = True
    for server in servers:
        server.close()
    _close_sessions(engine, min(seconds, within), alive)
    done = _wait(lambda: _all_ended(engine), end, alive)
    done = _wait(lambda: _all_answered(servers, engine), end, alive) and done
    if not done:
        logger.warning("Stopped with %d sessions and some requests left", len(engine.sockets))
    return done


def _close_sessions(engine: EngineServer, seconds: float, alive: Callable[[], object]) -> None:
    """Close what is open, evenly over `seconds`, so that nobody's next server meets all of them at once."""
    waiting: list[Callable[[], object]] = [partial(_close_session, engine, sid) for sid in engine.sockets]
    waiting += [stream.finish for stream in engine.streams]
    began, closed = monotonic(), 0
    while closed < len(waiting):
        share = (monotonic() - began) / seconds if seconds > 0 else 1.0
        due = min(len(waiting), int(share * len(waiting)) + 1)
        for close in waiting[closed:due]:
            close()
        closed = due
        alive()
        if closed < len(waiting):
            gevent.sleep(STEP_SECONDS)


def _all_ended(engine: EngineServer) -> bool:
    """Close also what began just before: its handshake had passed when the drain began."""
    for sid in tuple(engine.sockets):
        _close_session(engine, sid)
    for stream in engine.streams:
        stream.finish()
    return not engine.sockets and not len(engine.streams)


def _close_session(engine: EngineServer, sid: str) -> None:
    engine.close_transport(sid, engine.reason.TRANSPORT_CLOSE, going_away=True)


def _all_answered(servers: Sequence[Server], engine: EngineServer) -> bool:
    """End the connections that rest; also those that end have what waits for them, and a peer's answer, to wait for."""
    for server in servers:
        server.end_idle(PATIENCE_SECONDS)
    return not any(server.busy for server in servers) and not engine.poller


def _wait(met: Callable[[], bool], end: float, alive: Callable[[], object]) -> bool:
    while not met():
        if monotonic() >= end:
            return False
        alive()
        gevent.sleep(STEP_SECONDS)
    return True
