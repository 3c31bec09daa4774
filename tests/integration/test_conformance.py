"""The corpora of RFC 6455, Engine.IO v4 and Socket.IO v5 against a real node, a healthy client beside each case."""

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import pytest
import requests

from tests.conformance import engine_io, heartbeats, mutations, rfc6455, sessions, socket_io
from tests.conformance.engine_io import Body, Opening, Request
from tests.conformance.outcomes import Row
from tests.conformance.runner import Server, run, run_opening, run_polling, run_request
from tests.conformance.socket_io import Packets
from tests.conformance.wire import Peer, payload
from tests.servers import Node, stopping, until

# Clients are patient with a server that fails seldom: one that is broken fails soon, and is given up in the end, since
# thousands of cases that wait for it would outlast CI, which then says nothing.
# Five long waits are within a test's limit.
PATIENCE, LATER_PATIENCE, FAILURES, GIVEN_UP = 10.0, 0.5, 5, 40


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    node = Node(
        measured=True,
        application="tests.integration.apps.conformance:application",
        SOCKET_MAX_PAYLOAD=str(rfc6455.MAX),
        SOCKET_RATE_LIMIT="0",
    )
    with stopping(node):
        yield node.wait_ready()
        found = re.search(r'Traceback|"level": "error"', node.text())
        assert found is None, node.text()[found.start() :][:3000]


def counts(node: Node) -> dict[str, int]:
    found = requests.get(node.url + "/_counts", timeout=5).json()
    # Greenlets that are kept for the next piece of work are few, and wait in one place.
    greenlets = [place for place in found["standing"] if not place.endswith("greenlet_pool.py:_live")]
    return {**found["leftovers"], "greenlets": len(greenlets), "descriptors": found["descriptors"]}


@contextlib.contextmanager
def leaving_nothing(node: Node) -> Iterator[Server]:
    """Serve cases. At the end nothing of them is left in the node."""
    Server(node.port).close()
    until(lambda: not {"sessions", "environ"} & {name for name, count in counts(node).items() if count})
    before = counts(node)
    server = Server(node.port)
    yield server
    server.close()
    left: list[Any] = []

    def as_before() -> bool:
        now = counts(node)
        left[:] = [(name, now[name], before[name]) for name in now if now[name] > before[name]]
        return not left

    try:
        # A polling session that was begun and left is given up after SOCKET_CONNECT_TIMEOUT, 10 s.
        until(as_before, 20)
    except AssertionError:
        pytest.fail(f"left behind (name, now, before): {left}")


@pytest.fixture(scope="module")
def server(node: Node) -> Iterator[Server]:
    with leaving_nothing(node) as server:
        yield server


@pytest.fixture(scope="module")
def beating() -> Iterator[Server]:
    """A server whose heartbeats are those of the protocols' own test suites."""
    node = Node(
        measured=True,
        application="tests.integration.apps.conformance:application",
        SOCKET_PING_INTERVAL=str(heartbeats.INTERVAL),
        SOCKET_PING_TIMEOUT=str(heartbeats.TIMEOUT),
        SOCKET_CONNECT_TIMEOUT=str(heartbeats.CONNECT),
    )
    with stopping(node), leaving_nothing(node.wait_ready()) as server:
        yield server


# tests/conftest.py chooses it for all processes that run tests; `MUTATIONS=seed` repeats a run.
SEED = int(os.environ["MUTATIONS"])
MUTATIONS = 150
# A test has so many cases: what pytest does for a test costs more than a case.
CASES = 40
failures = 0


def in_groups(cases: Iterable[Any]) -> pytest.MarkDecorator:
    """Let a test have some `cases`, whose first gives it its name; `CASE=text` leaves those that have it in theirs."""
    chosen = [case for case in cases if os.environ.get("CASE", "") in str(case)]
    groups = [chosen[place : place + CASES] for place in range(0, len(chosen), CASES)]
    return pytest.mark.parametrize("cases", groups, ids=[str(group[0]) for group in groups])


def each(cases: list[Any], act: Callable[[Any], object]) -> None:
    """Run all cases, whatever fails; then fail with each that did. Waits less once several have failed."""
    global failures
    failed = []
    for case in cases:
        if failures >= GIVEN_UP:
            pytest.fail("\n\n".join([f"given up: {failures} cases failed", *failed]))
        Peer.patience = PATIENCE if failures < FAILURES else LATER_PATIENCE
        try:
            act(case)
        except (AssertionError, EOFError, OSError) as error:
            failures += 1
            failed.append(f"{case}: {type(error).__name__}: {error}")
        finally:
            Peer.patience = PATIENCE
    assert not failed, "\n\n".join(failed)


@in_groups(rfc6455.rows())
def test_rfc6455(server: Server, cases: list[Row]) -> None:
    each(cases, partial(run, server))


@in_groups(engine_io.openings())
def test_opening_handshake(server: Server, cases: list[Opening]) -> None:
    each(cases, partial(run_opening, server))


@in_groups(engine_io.requests())
def test_engine_io_requests(server: Server, cases: list[Request]) -> None:
    each(cases, partial(run_request, server))


@in_groups(engine_io.rows())
def test_engine_io_packets(server: Server, cases: list[Row]) -> None:
    each(cases, partial(run, server))


@in_groups(engine_io.bodies())
def test_engine_io_payloads(server: Server, cases: list[Body]) -> None:
    each(cases, partial(run_polling, server))


@pytest.mark.parametrize("name", list(sessions.scenes))
def test_engine_io_sessions(server: Server, name: str) -> None:
    def play(name: str) -> None:
        sessions.scenes[name](server)
        server.serves()

    each([name], play)


@in_groups(socket_io.rows())
def test_socket_io_over_websocket(server: Server, cases: list[Row]) -> None:
    each(cases, partial(run, server))


@in_groups(one for one in socket_io.packets() if len(payload(*one.packets)) <= rfc6455.MAX)
def test_socket_io_over_polling(server: Server, cases: list[Packets]) -> None:
    each(cases, partial(run_polling, server))


@in_groups(mutations.mutations(SEED, MUTATIONS))
def test_mutations(server: Server, cases: list[mutations.Mutation]) -> None:
    print(f"MUTATIONS={SEED}")
    each(cases, partial(mutations.run, server))


@pytest.mark.parametrize("name", list(heartbeats.scenes))
def test_heartbeats(beating: Server, name: str) -> None:
    Peer.patience = PATIENCE
    heartbeats.scenes[name](beating.port)
    # A client that is there all the time would have to answer pings all the time.
    Server(beating.port).close()
