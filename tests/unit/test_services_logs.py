"""The service of logs: feeds, history and live without a gap, clears that others hear of; on a real Redis."""

import json
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gevent
import pytest

from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.fanout.subscribe.channels import Channels
from mintflow_realtime.fanout.subscribe.subscriber import RedisSubscriber
from mintflow_realtime.protocol.errors import Conflict, Forbidden, InvalidPayload, RealtimeError, Unavailable
from mintflow_realtime.protocol.logs import ClearLogs, LogHistory, NewLog, SubscribeLogs
from mintflow_realtime.protocol.scripts import Keys
from mintflow_realtime.services.logs import Logs
from mintflow_realtime.stores.redis.client import RedisClient
from mintflow_realtime.stores.redis.connect import connect
from tests.house import House
from tests.redis_fixture import PrivateRedis
from tests.transport_client import until

ROOT = Path(__file__).parent.parent.parent
ADMIN = Principal.system("acme")


@pytest.fixture
def house(runner: RedisClient, keys: Keys) -> House:
    return House(runner, keys)


def messages(house: House, connection: str = "e1") -> list[str]:
    return [payload["log"]["message"] for name, payload in house.hall.heard(connection) if name == "new_log"]


def shown(answer: dict[str, Any]) -> list[str]:
    return [log["message"] for log in answer["logs"]]


def test_a_record_as_it_is_published_announced_and_read(house: House) -> None:
    client = house.join("/logs")
    published = house.logs.append(
        "acme", message="hello", level="warn", flow_id="f", run_id="r", node_id="n", metadata={"a": [], "n": 2**53 + 1}
    )
    record = published.payload["log"]
    assert record.keys() == {
        "logId",
        "tenantId",
        "flowId",
        "runId",
        "nodeId",
        "logLevel",
        "message",
        "metadata",
        "createdAt",
    }
    assert (record["tenantId"], record["logLevel"], record["metadata"]) == ("acme", "warn", {"a": [], "n": 2**53 + 1})
    house.hear("/logs")
    assert house.hall.heard("e1") == [("new_log", {"log": record})]
    assert house.did(client, "log_history") == {"logs": [record]}
    assert house.logs.append("acme", message="m").payload["log"]["metadata"] == {}


def test_a_new_client_has_the_whole_tenants_feed(house: House) -> None:
    house.join("/logs")
    house.join("/logs", "other", tenant="other")
    for level in ("debug", "info", "warn", "error"):
        house.logs.append("acme", message=level, level=level, flow_id="f", run_id="r")
    house.hear("/logs")
    assert messages(house) == ["debug", "info", "warn", "error"] and "other" not in house.hall.sent


@pytest.mark.parametrize(
    ("payload", "heard"),
    [
        ({}, ["1", "2", "3", "4"]),
        ({"flowId": "f"}, ["1", "2", "3"]),
        ({"runId": "r"}, ["2", "3"]),
        ({"flowId": "f", "runId": "r"}, ["2", "3"]),
        ({"flowId": "g", "runId": "r"}, []),
        ({"minLevel": "warn"}, ["3", "4"]),
        ({"flowId": "f", "minLevel": "error"}, ["3"]),
    ],
)
def test_a_narrowed_feed(house: House, payload: dict[str, str], heard: list[str]) -> None:
    client = house.join("/logs")
    assert house.did(client, "subscribe_logs", {"flowId": "x"}) == {"logs": [], "success": True}
    assert house.did(client, "subscribe_logs", payload) == {"logs": [], "success": True}
    house.logs.append("acme", message="1", level="debug", flow_id="f")
    house.logs.append("acme", message="2", flow_id="f", run_id="r")
    house.logs.append("acme", message="3", level="error", flow_id="f", run_id="r")
    house.logs.append("acme", message="4", level="warn")
    house.hear("/logs")
    assert messages(house) == heard
    assert house.did(client, "unsubscribe_logs") == {"success": True}
    house.logs.append("acme", message="5", level="debug")
    house.hear("/logs")
    assert messages(house) == [*heard, "5"]


@pytest.mark.parametrize("heard_before", range(6))
@pytest.mark.parametrize("history", [1, 3, 1000])
@pytest.mark.parametrize(
    ("old", "new", "was_entitled"),
    [({}, {}, True), ({}, {"minLevel": "info"}, True), ({"flowId": "x"}, {}, False), ({"minLevel": "warn"}, {}, False)],
)
def test_history_then_live_has_no_gap_and_no_duplicate_wherever_the_node_stands(
    house: House, heard_before: int, history: int, old: dict[str, Any], new: dict[str, Any], was_entitled: bool
) -> None:
    """The node is behind the history: of 5 records it has heard some when the client subscribes."""
    for number in range(1, 6):
        house.logs.append("acme", message=str(number))
    house.hear("/logs", to=heard_before)
    client = house.join("/logs")
    house.did(client, "subscribe_logs", old)
    answer = house.did(client, "subscribe_logs", {"history": history, **new})
    outstanding = [str(number) for number in range(heard_before + 1, 6)] if was_entitled else []
    assert messages(house) == outstanding and len(house.before_answer) == len(outstanding)
    assert shown(answer) == ["1", "2", "3", "4", "5"][-history:]
    assert house.manager._held == {}
    house.logs.append("acme", message="6")
    house.hear("/logs")
    assert messages(house) == [*outstanding, "6"]


@pytest.mark.parametrize("heard_before", range(6))
def test_the_old_feed_goes_on_until_the_historys_end_and_the_new_one_after_it(house: House, heard_before: int) -> None:
    client = house.join("/logs")
    house.did(client, "subscribe_logs", {"flowId": "f"})
    of_flow, of_run = {"flow_id": "f"}, {"run_id": "r"}
    for number, where in enumerate((of_flow, of_run, {**of_flow, **of_run}, of_run, of_flow), 1):
        house.logs.append("acme", message=str(number), **where)
    house.hear("/logs", to=heard_before)
    answer = house.did(client, "subscribe_logs", {"runId": "r", "history": 10})
    assert messages(house) == ["1", "3", "5"] and len(house.before_answer) == 3
    assert shown(answer) == ["2", "3", "4"]
    for number, where in enumerate((of_flow, of_run), 6):
        house.logs.append("acme", message=str(number), **where)
    house.hear("/logs")
    assert messages(house) == ["1", "3", "5", "7"]


@pytest.mark.parametrize(("old", "before"), [({}, ["2"]), ({"flowId": "x"}, [])])
def test_records_that_come_while_the_history_is_read_follow_it(
    house: House, monkeypatch: pytest.MonkeyPatch, old: dict[str, str], before: list[str]
) -> None:
    """The node is ahead of the history: what it hears between the reading and the answer waits for the answer."""
    house.logs.append("acme", message="1")
    house.hear("/logs")
    client = house.join("/logs")
    house.did(client, "subscribe_logs", old)
    real = house.log_store.page

    def page(*args: Any, **more: Any) -> Any:
        house.logs.append("acme", message="2")
        house.hear("/logs")
        found = real(*args, **more)
        house.logs.append("acme", message="3")
        house.hear("/logs")
        assert messages(house) == []
        return found

    monkeypatch.setattr(house.log_store, "page", page)
    answer = house.did(client, "subscribe_logs", {"history": 10})
    assert shown(answer) == ["1", "2"]
    assert [payload["log"]["message"] for _, payload in house.before_answer] == before
    assert messages(house) == [*before, "3"]


@pytest.mark.parametrize("old", [{}, {"flowId": "f"}])
def test_a_node_that_does_not_catch_up_leaves_the_feed_as_it_was_and_loses_nothing(
    house: House, old: dict[str, str]
) -> None:
    client = house.join("/logs")
    house.did(client, "subscribe_logs", old)
    before = sorted(house.manager.get_rooms(client.sid, "/logs"))
    house.logs.append("acme", message="1", flow_id="f")

    def behind(*_: Any) -> None:
        house.hear("/logs")
        house.logs.append("acme", message="2", flow_id="f", run_id="r")
        house.hear("/logs")
        assert messages(house) == []
        raise Unavailable("behind")

    house.manager.wait_until_passed = behind
    assert house.refused(client, "subscribe_logs", {"runId": "r", "history": 5}) == "unavailable"
    assert sorted(house.manager.get_rooms(client.sid, "/logs")) == before and house.manager._held == {}
    assert messages(house) == ["1", "2"]


def test_a_history_that_cannot_be_read_leaves_the_feed_as_it_was(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    client = house.join("/logs")
    house.did(client, "subscribe_logs", {"flowId": "f"})
    before = sorted(house.manager.get_rooms(client.sid, "/logs"))

    def fail(*_: Any, **__: Any) -> Any:
        raise Unavailable("silent")

    monkeypatch.setattr(house.log_store, "page", fail)
    assert house.refused(client, "subscribe_logs", {"runId": "r", "history": 5}) == "unavailable"
    assert sorted(house.manager.get_rooms(client.sid, "/logs")) == before and house.manager._held == {}
    house.logs.append("acme", message="still", flow_id="f")
    house.logs.append("acme", message="not", run_id="r")
    house.hear("/logs")
    assert messages(house) == ["still"]


def test_a_feed_as_it_was_loses_nothing_that_came_while_the_history_failed(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reading waits for Redis up to a second; what comes meanwhile belongs to the old feed, which goes on."""
    client = house.join("/logs")
    house.did(client, "subscribe_logs", {"flowId": "f"})

    def fail(*_: Any, **__: Any) -> Any:
        house.logs.append("acme", message="meanwhile", flow_id="f")
        house.hear("/logs")
        raise Unavailable("silent")

    monkeypatch.setattr(house.log_store, "page", fail)
    assert house.refused(client, "subscribe_logs", {"runId": "r", "history": 5}) == "unavailable"
    assert messages(house) == ["meanwhile"]


def test_history_pages_backwards(house: House) -> None:
    client = house.join("/logs")
    for number in range(5):
        house.logs.append("acme", message=str(number), run_id="r" if number % 2 else None)
    first = house.did(client, "log_history", {"limit": 2})
    assert shown(first) == ["3", "4"]
    second = house.did(client, "filter_logs", {"limit": 5, "before": first["nextCursor"]})
    assert shown(second) == ["0", "1", "2"] and "nextCursor" not in second
    assert shown(house.did(client, "filter_logs", {"runId": "r", "search": "3"})) == ["3"]
    assert house.refused(client, "log_history", {"before": "x"}) == "invalid_payload"


@pytest.mark.parametrize("criterion", ["flowId", "runId", "logId"])
def test_a_clear_answers_its_sender_and_tells_the_others(house: House, criterion: str) -> None:
    record = house.logs.append("acme", message="m", flow_id="f", run_id="r").payload["log"]
    house.hear("/logs")
    client = house.join("/logs", "e1")
    house.join("/logs", "e2")
    house.join("/logs", "e3", tenant="other")
    value = record[criterion]
    cleared = {"success": True, "deleted": 1, criterion: value}
    assert house.did(client, "clear_logs", {criterion: value}) == cleared
    house.hear("/logs")
    assert house.hall.heard("e2") == [("clear_logs", cleared)] and house.hall.sent.keys() == {"e2"}
    assert house.did(client, "log_history")["logs"] == []
    assert house.did(client, "clear_logs", {criterion: value})["deleted"] == 0


def test_permissions_are_checked_here_for_every_door(house: House) -> None:
    nobody = Principal.system("acme")
    object.__setattr__(nobody, "permissions", frozenset())
    for call in (
        lambda: house.logs.publish(nobody, [NewLog(log_level="info", message="m")]),
        lambda: house.logs.read(nobody, LogHistory()),
        lambda: house.logs.clear(nobody, ClearLogs(flow_id="f")),
    ):
        with pytest.raises(Forbidden):
            call()
    client = house.join("/logs", permissions=frozenset({"logs:read"}))
    assert house.refused(client, "clear_logs", {"flowId": "f"}) == "forbidden"
    house.did(client, "subscribe_logs", {"history": 1})
    house.did(client, "unsubscribe_logs")


def test_one_who_may_not_read_gets_no_feed_by_leaving_one(house: House) -> None:
    client = house.join("/logs", permissions=frozenset({"logs:write"}))
    before = sorted(house.manager.get_rooms(client.sid, "/logs"))
    for payload in ({}, {"history": 5}, {"flowId": "f"}):
        assert house.refused(client, "subscribe_logs", payload) == "forbidden"
    assert house.refused(client, "unsubscribe_logs") == "forbidden"
    assert sorted(house.manager.get_rooms(client.sid, "/logs")) == before


def test_a_batch_is_published_whole_or_not_at_all(house: House) -> None:
    good = NewLog(log_level="info", message="m")
    bad = NewLog(log_level="info", message="m", metadata={"a": object()})
    with pytest.raises(InvalidPayload):
        house.logs.publish(ADMIN, [good, bad])
    assert house.logs.read(ADMIN, LogHistory()).logs == []
    published = house.logs.publish(ADMIN, [NewLog(log_level="info", message=str(number)) for number in range(300)])
    assert len(published.offsets) == 300
    texts = [json.loads(bytes(raw))["message"] for raw in house.logs.read(ADMIN, LogHistory(limit=1000)).logs]
    assert texts == [str(number) for number in range(300)]


def test_a_repeat_stores_nothing_twice(house: House) -> None:
    first = house.logs.append("acme", message="m", idempotency_key="k")
    again = house.logs.append("acme", message="m", idempotency_key="k")
    assert again.repeated and again.offset == first.offset
    assert again.payload["log"]["logId"] == first.payload["log"]["logId"]
    with pytest.raises(Conflict):
        house.logs.append("acme", message="another", idempotency_key="k")
    assert len(house.logs.read(ADMIN, LogHistory()).logs) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"tenant": "a b"},
        {"tenant": "-"},
        {"flow_id": ""},
        {"run_id": "a\n"},
        {"node_id": 1},
        {"level": []},
        {"timestamp": "yesterday"},
        {"message": 1},
        {"message": None},
        {"metadata": {"a": object()}},
        {"metadata": [1]},
        {"metadata": "text"},
        {"idempotency_key": ""},
    ],
)
def test_whatever_is_wrong_raises_from_one_tree(house: House, wrong: dict[str, Any]) -> None:
    with pytest.raises(RealtimeError):
        house.logs.append(**{"tenant": "acme", "message": "m", **wrong})
    assert house.publisher.head("acme", "/logs") == (None, None)


def test_a_process_without_sockets_publishes_and_follows_nothing(house: House) -> None:
    logs = Logs(house.publisher, house.log_store)
    logs.append("acme", message="m")
    for call in (
        lambda: logs.join(ADMIN, "sid"),
        lambda: logs.subscribe(ADMIN, "sid", SubscribeLogs(history=1)),
        lambda: logs.unsubscribe(ADMIN, "sid"),
    ):
        with pytest.raises(RuntimeError):
            call()


@pytest.fixture
def live(private_redis: PrivateRedis, keys: Keys, cooperative: None) -> Iterator[House]:
    """A house whose clients hear through the node's real channels."""
    client, ears = RedisClient(connect(private_redis.url)), connect(private_redis.url)
    found = House(client, keys)
    channels = Channels(
        client,
        keys,
        found.publisher,
        partial(RedisSubscriber, ears),
        node="n1",
        outside_channel=keys.shared("outside"),
        outside=lambda message: None,
        deliver=found.manager.deliver,
        lost=found.manager.tell_lost,
        on_control=lambda tenant: None,
    )
    found.manager.wait_until_passed = channels.wait_until_passed
    channels.start()
    channels.open("acme", "/logs")
    yield found
    channels.stop()
    ears.close()
    client.close()


def test_history_then_live_while_another_process_publishes_all_the_time(
    live: House, private_redis: PrivateRedis, keys: Keys
) -> None:
    """Many rounds, each at another moment: what was answered and what came live join without gap or duplicate.

    The live stream as a whole has none either, whatever feed the client leaves for whatever other in the middle of it.
    """
    command = [sys.executable, "-m", "tests.logging_process", private_redis.url, keys.prefix]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, text=True) as process:
        try:
            client = live.join("/logs")
            until(lambda: messages(live), 20)
            rounds = 0
            with gevent.Timeout(30, AssertionError("too slow")):
                while rounds < 60:
                    gevent.sleep(0.001 * (rounds % 7))
                    payload = {"history": 1 + rounds % 5, **({"minLevel": "info"} if rounds % 3 else {})}
                    answer = live.did(client, "subscribe_logs", payload)
                    assert live.manager._held == {}
                    before = len(live.before_answer)
                    until(lambda before=before: len(messages(live)) > before + 3)
                    assert [name for name, _ in live.hall.heard("e1") if name != "new_log"] == []
                    heard = [int(text) for text in messages(live)]
                    assert heard == list(range(heard[0], heard[0] + len(heard))), (rounds, heard)
                    told = [int(text) for text in shown(answer)]
                    assert len(told) == 1 + rounds % 5 or told[0] == 0
                    assert told == list(range(heard[before] - len(told), heard[before])), (rounds, told, heard[before:])
                    rounds += 1
        finally:
            process.communicate("stop", timeout=10)
