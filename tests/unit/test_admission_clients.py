"""The clients of a node: by sid, by tenant and by the end of their token; their rate; and what they leave behind."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mintflow_realtime.admission.clients import PATIENCE_SECONDS, REFUSED, WARNING_SECONDS, Bucket, Client, Clients
from mintflow_realtime.auth.principal import Principal


class Turned:
    """A clock that can be turned."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Turned:
    return Turned()


@pytest.fixture
def clients(clock: Turned) -> Clients:
    return Clients(0, 100, clock)


def client(sid: str, *, tenant: str = "acme", connection: str = "e1", end: float | None = None) -> Client:
    return Client(sid, connection, "/n", replace(Principal.system(tenant), expires_at=end))


def due(clients: Clients) -> list[tuple[str, bool]]:
    return [(one.sid, ended) for one, ended in clients.due()]


def test_clients_are_found_by_sid_and_by_tenant(clients: Clients) -> None:
    one, two, other = client("a"), client("b"), client("c", tenant="other")
    for each in (one, two, other):
        clients.add(each)
    assert clients.get("a", "/n") is one and clients.get("a", "/other") is None and len(clients) == 3
    assert clients.of_tenant("acme") == [one, two] and clients.of_tenant("nobody") == []
    assert clients.remove("a", "/n") is one and clients.remove("a", "/n") is None
    assert clients.of_tenant("acme") == [two]


def test_a_client_that_left_leaves_nothing_behind(clients: Clients) -> None:
    for number in range(10):
        clients.add(client(f"s{number}", connection=f"e{number % 3}", tenant=f"t{number % 2}"))
    for number in range(10):
        clients.remove(f"s{number}", "/n")
    assert len(clients) == 0 and clients._by_tenant == {} and clients._by_connection == {}


def test_the_clients_of_a_connection_are_those_of_all_its_namespaces(clients: Clients) -> None:
    one, two, other = client("a"), client("b", tenant="other"), client("c", connection="e2")
    for each in (one, two, other):
        clients.add(each)
    assert clients.of_connection("e1") == [one, two] and clients.of_connection("e2") == [other]
    clients.of_connection("e1").clear()
    clients.remove("a", "/n")
    assert clients.of_connection("e1") == [two]
    clients.remove("b", "/n")
    assert clients.of_connection("e1") == clients.of_connection("nobody") == []
    assert clients._by_connection.keys() == {"e2"}


def test_a_warning_a_minute_before_the_end_once_and_then_the_end(clients: Clients, clock: Turned) -> None:
    clients.add(client("a", end=1100))
    clients.add(client("endless"))
    assert due(clients) == []
    clock.now = 1100 - WARNING_SECONDS
    assert due(clients) == [("a", False)] and due(clients) == []
    clock.now = 1099.9
    assert due(clients) == []
    clock.now = 1100
    assert due(clients) == [("a", True)] and due(clients) == []


def test_a_token_that_ends_within_a_minute_is_warned_of_at_once(clients: Clients, clock: Turned) -> None:
    clients.add(client("a", end=1010))
    assert due(clients) == [("a", False)]
    clients.add(client("b", end=999))
    assert due(clients) == [("b", True)]


def test_several_in_the_order_of_their_ends_however_late_one_looks(clients: Clients, clock: Turned) -> None:
    for sid, end in (("c", 1300.0), ("a", 1100.0), ("b", 1200.0)):
        clients.add(client(sid, end=end))
    clock.now = 2000
    assert due(clients) == [("a", True), ("b", True), ("c", True)]


def test_a_refreshed_token_is_warned_of_anew(clients: Clients, clock: Turned) -> None:
    one = client("a", end=1100)
    clients.add(one)
    clock.now = 1050
    assert due(clients) == [("a", False)]
    clients.refresh(one, replace(one.principal, expires_at=1500))
    clock.now = 1200
    assert due(clients) == []
    clock.now = 1440
    assert due(clients) == [("a", False)] and due(clients) == []
    clock.now = 1500
    assert due(clients) == [("a", True)]


def test_a_token_that_ends_sooner_is_noticed_sooner(clients: Clients, clock: Turned) -> None:
    one = client("a", end=5000)
    clients.add(one)
    clients.refresh(one, replace(one.principal, expires_at=1100))
    clock.now = 1100
    assert due(clients) == [("a", True)]


def test_one_who_left_is_not_due(clients: Clients, clock: Turned) -> None:
    clients.add(client("a", end=1100))
    clients.remove("a", "/n")
    clock.now = 2000
    assert due(clients) == [] and clients._ends == []


def test_clients_that_come_and_go_do_not_fill_the_list_of_ends(clients: Clients) -> None:
    for number in range(10_000):
        clients.add(client(f"s{number}", end=1_000_000))
        clients.remove(f"s{number}", "/n")
    assert len(clients._ends) <= 2 * len(clients) + 1001


def test_one_client_that_refreshes_again_and_again_does_not_fill_it_either(clients: Clients) -> None:
    one = client("a", end=1_000_000)
    clients.add(one)
    for number in range(5000):
        clients.refresh(one, replace(one.principal, expires_at=1_000_000 + number))
    assert len(clients._ends) == 1


def test_tokens_that_end_ever_sooner_do_not_fill_it_either(clients: Clients, clock: Turned) -> None:
    one = client("a", end=1_000_000)
    clients.add(one)
    for number in range(5000):
        clients.refresh(one, replace(one.principal, expires_at=1_000_000 - number))
    assert len(clients._ends) <= 2 * len(clients) + 1001
    clock.now = 1_000_000 - 4999
    assert due(clients) == [("a", True)] and due(clients) == []


@given(
    st.lists(st.tuples(st.sampled_from(["add", "refresh", "remove", "look"]), st.integers(0, 3), st.integers(0, 300)))
)
def test_every_end_is_told_once_and_warned_of_once_before(actions: list[tuple[str, int, int]]) -> None:
    clock = Turned()
    clients = Clients(0, 1, clock)
    ended: set[str] = set()
    warned: set[str] = set()
    for action, number, seconds in actions:
        sid, end = f"s{number}", clock.now + seconds
        one = clients.get(sid, "/n")
        if action == "add" and one is None:
            clients.add(client(sid, end=end))
            ended.discard(sid)
            warned.discard(sid)
        elif action == "refresh" and one is not None and sid not in ended:
            clients.refresh(one, replace(one.principal, expires_at=end))
            warned.discard(sid)
        elif action == "remove":
            clients.remove(sid, "/n")
        else:
            clock.now += seconds
            for told, is_end in clients.due():
                expires = told.principal.expires_at or 0
                assert is_end == (expires <= clock.now)
                if is_end:
                    assert told.sid not in ended
                    ended.add(told.sid)
                else:
                    assert expires - WARNING_SECONDS <= clock.now and told.sid not in warned
                    warned.add(told.sid)
            for remaining in clients._by_place.values():
                if (remaining.principal.expires_at or 0) <= clock.now:
                    assert remaining.sid in ended


def test_a_bucket_saves_up_to_its_burst_and_tells_when_the_next_token_comes() -> None:
    clock = Turned()
    bucket = Bucket(2, 3, clock)
    assert [bucket.spend() for _ in range(4)] == [0, 0, 0, 0.5]
    clock.now += 0.5
    assert bucket.spend() == 0.5
    clock.now += 1
    assert [bucket.spend(), bucket.spend()] == [0, 0.5]
    clock.now += 100
    assert [bucket.spend() for _ in range(4)] == [0, 0, 0, 0.5]


def test_a_burst_is_slowed_down_and_who_goes_on_for_long_is_refused_until_it_rests() -> None:
    clock = Turned()
    bucket = Bucket(50, 100, clock)

    def flood(seconds: float) -> list[float]:
        waits, end = [], clock.now + seconds
        while clock.now < end:
            waits.append(bucket.spend())
            clock.now += max(0.001, waits[-1])
        return waits

    assert not any(flood(0.09))
    slowed = flood(PATIENCE_SECONDS - 1)
    assert REFUSED not in slowed and len(slowed) == pytest.approx(50 * (PATIENCE_SECONDS - 1), abs=20)
    later = flood(10)
    # Those for which there is a token pass still.
    assert later.count(REFUSED) > 5000 and later.count(0) == pytest.approx(450, abs=60)
    clock.now += 0.4
    assert bucket.spend() == 0 and REFUSED not in flood(PATIENCE_SECONDS - 1)


def test_a_rate_of_nothing_is_no_limit() -> None:
    bucket = Bucket(0, 0)
    assert not any(bucket.spend() for _ in range(1000))


def test_the_namespaces_of_a_connection_share_its_rate(clock: Turned) -> None:
    clients = Clients(0.0001, 2, clock)
    one, two, other = client("a"), client("b"), client("c", connection="e2")
    for each in (one, two, other):
        clients.add(each)
    assert [clients.spend(each.connection) > 0 for each in (one, two, one, other)] == [False, False, True, False]
    clients.remove("a", "/n")
    assert clients.spend(two.connection) > 0
    assert clients.spend("e9") == 0
