"""What a node remembers of a client's life, and tells of it while the client is there and after it has gone."""

import time
from collections.abc import Iterator

import pytest

from mintflow_realtime.admission.clients import Client
from mintflow_realtime.admission.lives import ClientLives, Marks
from mintflow_realtime.fanout.heard import HeardTimes
from mintflow_realtime.fanout.lives import Lives
from mintflow_realtime.fanout.session import Session
from mintflow_realtime.protocol.envelope import Offset
from mintflow_realtime.protocol.scripts import Keys
from mintflow_realtime.protocol.why import AskWhy, NodeTells, Stay
from mintflow_realtime.stores.nodes.roster import Roster, was_there
from mintflow_realtime.stores.redis.client import RedisClient
from tests.house import House

ROOM = "acme:run:r1"


class Watched:
    """A node of which the lives are written down."""

    def __init__(self, runner: RedisClient, keys: Keys) -> None:
        self.house = House(runner, keys)
        manager = self.house.manager
        manager.position = lambda tenant, namespace: Offset("e", 12)
        lives = manager.lives = Lives()
        self.roster = Roster()
        self.unsent: Marks = ({}, [])
        self.lives = ClientLives(
            lives,
            HeardTimes(),
            self.house.gate.clients,
            manager,
            lambda client: 1000.0,
            lambda connection: self.unsent,
            lambda tenant, namespace: f"{tenant} {namespace}",
            self.roster,
        )

    def join(self, recovers: bool = False) -> Client:
        client = self.house.join("/flows", user_id="ann")
        if recovers:
            client.recovery = Session("acme", "/flows", client.sid, "p", "e-1")
            self.house.manager.follow(client.recovery)
        self.lives.connected(client)
        return client

    def leave(self, client: Client, reason: str) -> None:
        self.lives.closed(client, reason)
        self.house.gate.clients.remove(client.sid, client.namespace)

    def tell(self) -> NodeTells:
        return self.lives.tell(AskWhy(tenant="acme", user_id="ann", namespace="/flows", offset="e-7", rooms=[ROOM]))

    def stay(self) -> Stay:
        (found,) = self.tell().stays
        return found


@pytest.fixture
def watched(runner: RedisClient, keys: Keys) -> Iterator[Watched]:
    yield Watched(runner, keys)


def test_pauses_of_a_connection_are_its_clients(watched: Watched) -> None:
    client = watched.join()
    assert watched.stay().pauses == []
    watched.lives.paused(client.connection, 2.5)
    watched.lives.paused("another's", 2.5)
    ((began, ended),) = watched.stay().pauses
    assert 2400 < ended - began < 2600 and abs(time.time() * 1000 - ended) < 60_000
    watched.leave(client, "client disconnect")
    assert len(watched.stay().pauses) == 1


def test_the_last_place_that_it_was_told_while_it_is_there_and_afterwards(watched: Watched) -> None:
    client = watched.join(recovers=True)
    assert client.recovery is not None
    assert (watched.stay().told, watched.stay().told_at) == ("", 0), "it was told nothing yet"
    client.recovery.sent, client.recovery.sent_at = 9, time.monotonic() - 3
    here = watched.stay()
    assert here.told == "e-9" and 2900 < time.time() * 1000 - here.told_at < 60_000
    watched.leave(client, "ping timeout")
    gone = watched.stay()
    assert gone.told == "e-9" and gone.closed == "ping timeout" and abs(gone.told_at - here.told_at) < 1000


def test_a_place_of_an_older_numbering_is_not_told(watched: Watched) -> None:
    client = watched.join(recovers=True)
    assert client.recovery is not None
    client.recovery.sent = 13
    assert watched.stay().told == ""


def test_who_came_and_went_outlives_the_node(watched: Watched) -> None:
    def there() -> bool:
        return was_there(pieces, "acme", "/flows", "ann", time.time() * 1000)

    pieces: list[bytes] = []
    client = watched.join()
    pieces.append(watched.roster.take())
    assert there() and not was_there(pieces, "acme", "/flows", "ann", time.time() * 1000 - 60_000)
    # Noted anew, it came when it came.
    watched.lives.enlist()
    pieces = [watched.roster.take()]
    assert was_there(pieces, "acme", "/flows", "ann", 1000.0)
    watched.leave(client, "transport close")
    pieces.append(watched.roster.take())
    assert not there()
