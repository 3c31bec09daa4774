"""/logs on a real server: each command by ack and by event, cursors, filters, clearing, and the live feed."""

import json
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.plain_client import ACK, EVENT, Plain
from tests.servers import Node, until
from tests.tenants import Tenant

LOGS = "/logs"
NewTenant = Callable[[Node], Tenant]


def texts(logs: list[dict[str, Any]]) -> list[str]:
    return [log["message"] for log in logs]


def page(client: Plain, command: str = "log_history", **payload: Any) -> tuple[list[str], str | None]:
    answer = client.call(LOGS, command, payload)
    assert answer["ok"], answer
    assert set(answer["data"]) <= {"logs", "nextCursor"}
    return texts(answer["data"]["logs"]), answer["data"].get("nextCursor")


def all_pages(client: Plain, command: str, **payload: Any) -> list[list[str]]:
    """Return the pages, oldest first, so that they joined are in order."""
    pages, cursor = [], None
    for _ in range(50):
        found, cursor = page(client, command, **payload, **({"before": cursor} if cursor else {}))
        pages.insert(0, found)
        if cursor is None:
            return pages
    raise AssertionError("the pages have no end")


def live(client: Plain) -> list[str]:
    """Return the messages of the new logs that have come so far."""
    return [payload["log"]["message"] for name, payload in client.events(LOGS) if name == "new_log"]


def hears(client: Plain, publish: Callable[[], Any], marker: str) -> list[str]:
    """Publish, then wait for the log `marker`; return the messages up to it."""
    heard: list[str] = []
    publish()
    while marker not in heard:
        heard.append(client.told(LOGS, "new_log")["log"]["message"])
    return heard


# Answers


@pytest.mark.parametrize(
    ("command", "payload", "expected"),
    [
        ("log_history", None, {"logs": ["one", "two"]}),
        ("log_history", {}, {"logs": ["one", "two"]}),
        ("log_history", {"flowId": "f1", "runId": "r1", "limit": 1}, {"logs": ["one"]}),
        ("filter_logs", None, {"logs": ["one", "two"]}),
        ("filter_logs", {"search": "TWO"}, {"logs": ["two"]}),
        ("clear_logs", {"flowId": "f1"}, {"success": True, "flowId": "f1", "deleted": 1}),
        ("clear_logs", {"runId": "r1"}, {"success": True, "runId": "r1", "deleted": 1}),
        ("clear_logs", {"logId": "1-1"}, {"success": True, "logId": "1-1", "deleted": 0}),
        ("subscribe_logs", None, {"success": True, "logs": []}),
        ("subscribe_logs", {"flowId": "f1", "minLevel": "debug", "history": 5}, {"success": True, "logs": ["one"]}),
        ("unsubscribe_logs", None, {"success": True}),
        ("unsubscribe_logs", {}, {"success": True}),
    ],
)
@pytest.mark.parametrize("acked", [True, False], ids=["ack", "event"])
def test_a_command_has_exactly_one_answer(
    tenant: Tenant, command: str, payload: Any, expected: dict[str, Any], acked: bool
) -> None:
    tenant.log("one", flowId="f1", runId="r1")
    tenant.log("two")
    client = tenant.plain(LOGS)
    arguments = [command] if payload is None else [command, payload]
    client.emit(LOGS, *arguments, id=77 if acked else None)
    (answer,) = client.settle(LOGS)
    if acked:
        assert (answer.kind, answer.id) == (ACK, 77)
        (outcome,) = answer.content
        assert set(outcome) == {"ok", "data"} and outcome["ok"] is True
        value = outcome["data"]
    else:
        assert answer.kind == EVENT and answer.id is None
        name, value = answer.content
        assert name == command
    if "logs" in expected:
        value = {**value, "logs": texts(value["logs"])}
    assert value == expected


LONG = "a" * 256
WRONG: list[tuple[str, Any, str, str | None]] = [
    # command, payload, code, path
    ("log_history", {"limit": 0}, "invalid_payload", "$.limit"),
    ("log_history", {"limit": 1001}, "invalid_payload", "$.limit"),
    ("log_history", {"limit": "5"}, "invalid_payload", "$.limit"),
    ("log_history", {"limit": 1.5}, "invalid_payload", "$.limit"),
    ("log_history", {"limit": True}, "invalid_payload", "$.limit"),
    ("log_history", {"flowId": ""}, "invalid_payload", "$.flowId"),
    ("log_history", {"flowId": LONG}, "invalid_payload", "$.flowId"),
    ("log_history", {"flowId": "a\x7f"}, "invalid_payload", "$.flowId"),
    ("log_history", {"flowId": "f1\n"}, "invalid_payload", "$.flowId"),
    ("log_history", {"runId": 5}, "invalid_payload", "$.runId"),
    ("log_history", {"before": "nonsense"}, "invalid_payload", "$.before"),
    ("log_history", [], "invalid_payload", "$"),
    ("log_history", "text", "invalid_payload", "$"),
    ("log_history", 5, "invalid_payload", "$"),
    ("filter_logs", {"logLevel": "fatal"}, "invalid_payload", "$.logLevel"),
    ("filter_logs", {"logLevel": []}, "invalid_payload", "$.logLevel"),
    ("filter_logs", {"logLevel": ["info", "fatal"]}, "invalid_payload", "$.logLevel[1]"),
    ("filter_logs", {"minLevel": "INFO"}, "invalid_payload", "$.minLevel"),
    ("filter_logs", {"search": ""}, "invalid_payload", "$.search"),
    ("filter_logs", {"from": "yesterday"}, "invalid_payload", "$.from"),
    ("filter_logs", {"to": "2026-01-01T00:00:00"}, "invalid_payload", "$.to"),
    ("filter_logs", {"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}, "invalid_payload", "$.from"),
    ("clear_logs", None, "invalid_payload", "$"),
    ("clear_logs", {}, "invalid_payload", "$"),
    ("clear_logs", {"flowId": "f1", "runId": "r1"}, "invalid_payload", "$"),
    ("subscribe_logs", {"history": -1}, "invalid_payload", "$.history"),
    ("subscribe_logs", {"history": 1001}, "invalid_payload", "$.history"),
    ("auth_refresh", {"token": ""}, "invalid_payload", "$.token"),
    ("auth_refresh", {"token": "nonsense"}, "authentication_failed", None),
    ("new_log", {"log": {}}, "unknown_event", None),
    ("connect", {}, "unknown_event", None),
    ("disconnect", None, "unknown_event", None),
    ("connect_error", {}, "unknown_event", None),
    ("error", {}, "unknown_event", None),
    ("respond", {}, "unknown_event", None),
    ("joined", {}, "unknown_event", None),
    ("__init__", {}, "unknown_event", None),
    ("", {}, "unknown_event", None),
]
UNKNOWN_OR_MISSING: list[tuple[str, Any, str, str | None]] = [
    ("auth_refresh", {}, "invalid_payload", "$.token"),
    ("log_history", {"nodeId": "n1"}, "invalid_payload", "$.nodeId"),
    ("log_history", {"tenantId": "acme"}, "invalid_payload", "$.tenantId"),
    ("clear_logs", {"nodeId": "n1"}, "invalid_payload", "$.nodeId"),
    ("subscribe_logs", {"nodeId": "n1"}, "invalid_payload", "$.nodeId"),
    ("unsubscribe_logs", {"flowId": "f1"}, "invalid_payload", "$.flowId"),
]


def check_refusals(client: Plain, namespace: str, wrong: list[tuple[str, Any, str, str | None]]) -> None:
    """Send each wrong command with an ack and without one; each is answered once, and says what is wrong."""
    for command, payload, code, path in wrong:
        arguments = [command] if payload is None else [command, payload]
        client.emit(namespace, *arguments, id=5)
        client.emit(namespace, *arguments)
        ack, event = client.settle(namespace)
        assert (ack.kind, ack.id, event.kind, event.id) == (ACK, 5, EVENT, None), command
        (refused,) = ack.content
        assert set(refused) == {"ok", "error"} and refused["ok"] is False
        error = refused["error"]
        assert event.content == ["error", {"event": command, **error}]
        assert (error["code"], error.get("path")) == (code, path), (command, payload, error)
        assert error["retryable"] is False and isinstance(error["message"], str) and error["message"]
        assert set(error) == {"code", "message", "retryable"} | ({"path"} if path else set())


def test_what_is_wrong_is_refused_by_ack_and_by_event_with_its_path(tenant: Tenant) -> None:
    client = tenant.plain(LOGS)
    check_refusals(client, LOGS, WRONG)
    assert client.call(LOGS, "log_history")["ok"], "the connection is as good as before"


def test_an_unknown_or_missing_field_is_refused_with_its_path(tenant: Tenant) -> None:
    check_refusals(tenant.plain(LOGS), LOGS, UNKNOWN_OR_MISSING)


def test_two_payload_arguments_are_refused(tenant: Tenant) -> None:
    client = tenant.plain(LOGS)
    error = client.call(LOGS, "log_history", {}, {})["error"]
    assert error["code"] == "invalid_payload"
    client.emit(LOGS, "log_history", {}, None)
    ((name, told),) = client.events(LOGS)
    assert (name, told["event"], told["code"]) == ("error", "log_history", "invalid_payload")


def test_a_null_payload_is_none(tenant: Tenant) -> None:
    assert tenant.plain(LOGS).call(LOGS, "log_history", None) == {"ok": True, "data": {"logs": []}}


def test_commands_of_one_client_are_answered_in_order(tenant: Tenant) -> None:
    client = tenant.plain(LOGS)
    for number in range(100):
        name = ("log_history", "nonsense", "subscribe_logs", "unsubscribe_logs")[number % 4]
        client.emit(LOGS, name, id=number)
    answers = client.settle(LOGS)
    assert [answer.id for answer in answers] == list(range(100))


def test_a_burst_is_slowed_down_and_nothing_of_it_refused(limited_node: Node, new_tenant: NewTenant) -> None:
    tenant = new_tenant(limited_node)
    client, other = tenant.plain(LOGS, "/flows"), tenant.plain(LOGS)
    for number in range(12):
        client.emit(LOGS, "log_history", id=number)
    began = time.monotonic()
    assert other.call(LOGS, "log_history")["ok"]
    answers = [client._next(lambda m: m.kind == ACK) for _ in range(12)]
    assert [answer.id for answer in answers] == list(range(12)) and all(one.content[0]["ok"] for one in answers)
    # Five at once, then two a second; one rate for a connection, in whichever namespace.
    assert client.call("/flows", "unsubscribe_flow", {"flowId": "f1"})["ok"]
    assert time.monotonic() - began > 3


# Records


def test_a_record_has_every_field_and_the_live_one_is_the_same(tenant: Tenant) -> None:
    client = tenant.plain(LOGS)
    metadata = {"list": [], "big": 9007199254740993, "text": "ü\u2028\x00", "deep": {"a": [{}]}, "none": None}
    tenant.log("hello ☃", level="warn", flowId="f1", runId="r1", nodeId="n1", metadata=metadata)
    live_log = client.told(LOGS, "new_log")
    assert set(live_log) == {"log"}
    (log,) = client.call(LOGS, "log_history")["data"]["logs"]
    assert live_log["log"] == log
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", log.pop("createdAt"))
    assert re.fullmatch(r"\d+-\d+", log.pop("logId"))
    assert log == {
        "tenantId": tenant.name,
        "flowId": "f1",
        "runId": "r1",
        "nodeId": "n1",
        "logLevel": "warn",
        "message": "hello ☃",
        "metadata": metadata,
    }
    tenant.log("bare", level="debug")
    bare = client.told(LOGS, "new_log")["log"]
    assert set(bare) == {"logId", "tenantId", "logLevel", "message", "metadata", "createdAt"}
    assert bare["metadata"] == {}


@pytest.mark.parametrize("command", ["log_history", "filter_logs"])
def test_a_cursor_goes_through_all_pages(tenant: Tenant, command: str) -> None:
    wanted = [f"m{number}" for number in range(25)]
    tenant.log(*wanted, flowId="f1")
    tenant.log("other", flowId="f2")
    client = tenant.plain(LOGS)
    pages = all_pages(client, command, flowId="f1", limit=10)
    assert [len(one) for one in pages] == [5, 10, 10]
    assert sum(pages, []) == wanted
    # What comes later does not move the pages of an old cursor.
    newest, cursor = page(client, command, limit=5)
    tenant.log("late", flowId="f1")
    assert page(client, command, limit=5, before=cursor)[0] == wanted[16:21]
    assert page(client, command)[0] == [*wanted, "other", "late"], "200 by default"


def test_the_default_page_has_200_records_and_a_large_one_ends_at_512_kb(tenant: Tenant) -> None:
    client = tenant.plain(LOGS)
    wanted = [f"{number:03}" for number in range(250)]
    tenant.log(*wanted, flowId="many")
    found, cursor = page(client, flowId="many")
    assert found == wanted[50:] and cursor
    assert page(client, flowId="many", limit=1000) == (wanted, None)
    large = [f"{number:02}" + "x" * 60_000 for number in range(20)]
    tenant.log(*large, flowId="large")
    pages = all_pages(client, "log_history", flowId="large", limit=1000)
    assert sum(pages, []) == large
    assert len(pages) > 2 and all(sum(map(len, one)) <= 524_288 for one in pages)


def test_filters_hold_together(tenant: Tenant) -> None:
    for level in ("debug", "info", "warn", "error"):
        tenant.log(f"{level} Straße", level=level, flowId="f1", runId="r1", nodeId="n1")
        tenant.log(f"{level} 100% \\n", level=level, flowId="f2", runId="r2", nodeId="n2")
    client = tenant.plain(LOGS)

    def found(**criteria: Any) -> list[str]:
        return page(client, "filter_logs", **criteria)[0]

    assert found(logLevel="warn") == ["warn Straße", "warn 100% \\n"]
    assert found(logLevel=["debug", "error"], flowId="f1") == ["debug Straße", "error Straße"]
    assert found(minLevel="warn", runId="r2") == ["warn 100% \\n", "error 100% \\n"]
    assert found(minLevel="warn", logLevel=["info", "warn"], nodeId="n1") == ["warn Straße"]
    assert found(minLevel="error", logLevel="debug") == []
    assert found(search="STRASSE", minLevel="error") == ["error Straße"]
    assert found(search="100% \\N", flowId="f2", logLevel="info") == ["info 100% \\n"]
    assert found(search="*", flowId="f2") == [] and found(search="%d") == []
    assert found(flowId="f1", runId="r2") == [] and found(nodeId="none") == []
    # A bound of time takes in its own millisecond.
    logs = client.call(LOGS, "log_history", {"flowId": "f1"})["data"]["logs"]
    first, last = logs[0]["createdAt"], logs[-1]["createdAt"]
    assert texts(logs) == found(**{"from": first, "to": last, "flowId": "f1"})
    assert found(**{"from": "2100-01-01T00:00:00Z"}) == [] and found(to="2000-01-01T00:00:00+02:00") == []
    on_first = [log["message"] for log in logs if log["createdAt"] == first]
    assert found(to=first, flowId="f1") == on_first


def test_a_search_pages_by_its_cursor(tenant: Tenant) -> None:
    tenant.log(*(f"{'needle' if number % 100 == 0 else 'hay'} {number}" for number in range(1000)))
    tenant.log(*(f"hay {number}" for number in range(1000)))
    wanted = [f"needle {number}" for number in range(0, 1000, 100)]
    pages = all_pages(tenant.plain(LOGS), "filter_logs", search="needle", limit=3)
    assert sum(pages, []) == wanted


# Clearing


@pytest.mark.parametrize("criterion", ["flowId", "runId", "logId"])
@pytest.mark.parametrize("acked", [True, False], ids=["ack", "event"])
def test_clearing_tells_the_others_and_the_caller_once(
    tenant: Tenant, new_tenant: NewTenant, criterion: str, acked: bool
) -> None:
    tenant.log("goes", flowId="f1", runId="r1")
    tenant.log("stays", flowId="f2", runId="r2")
    caller, foreign = tenant.plain(LOGS), new_tenant(tenant.node).plain(LOGS)
    # Several, so that with two workers some are on the other one; narrowed to another flow, and told all the same.
    others = [tenant.plain(LOGS) for _ in range(6)]
    assert others[0].call(LOGS, "subscribe_logs", {"flowId": "f9"})["ok"]
    logs = caller.call(LOGS, "log_history")["data"]["logs"]
    payload = {criterion: logs[0][criterion]}
    expected = {"success": True, **payload, "deleted": 1}
    caller.emit(LOGS, "clear_logs", payload, id=9 if acked else None)
    (answer,) = caller.settle(LOGS)
    assert answer.content == ([{"ok": True, "data": expected}] if acked else ["clear_logs", expected])
    for other in others:
        assert other.told(LOGS, "clear_logs") == expected
    tenant.log("after")
    assert hears(caller, lambda: None, "after") == ["after"], "the caller is told by its answer alone"
    assert foreign.events(LOGS) == []
    assert page(caller)[0] == page(others[0], "filter_logs")[0] == ["stays", "after"]
    # Once more deletes nothing.
    assert caller.call(LOGS, "clear_logs", payload)["data"]["deleted"] == 0


def test_clearing_over_http_tells_all(tenant: Tenant) -> None:
    tenant.log("a", "b", flowId="f1")
    client = tenant.plain(LOGS)
    assert tenant.http("DELETE", "/logs?flowId=f1").json() == {"deleted": 2}
    assert client.told(LOGS, "clear_logs") == {"success": True, "flowId": "f1", "deleted": 2}


# The live feed


def test_the_feed_is_narrowed_and_widened_again(tenant: Tenant) -> None:
    client = tenant.plain(LOGS)

    def publish(marker: str) -> None:
        for level in ("debug", "info", "warn", "error"):
            tenant.log(f"{level}", level=level, flowId="f1", runId="r1")
            tenant.log(f"{level} other", level=level, flowId="f1", runId="r2")
        tenant.log(marker, level="error", flowId="f1", runId="r1")

    def heard(marker: str) -> list[str]:
        return hears(client, lambda: publish(marker), marker)[:-1]

    everything = ["debug", "debug other", "info", "info other", "warn", "warn other", "error", "error other"]
    assert heard("m1") == everything
    assert client.call(LOGS, "subscribe_logs", {"flowId": "f1", "runId": "r1", "minLevel": "warn"})["ok"]
    assert heard("m2") == ["warn", "error"]
    assert client.call(LOGS, "subscribe_logs", {"runId": "r1"})["ok"], "the later subscription takes the place"
    assert heard("m3") == ["debug", "info", "warn", "error"]
    assert client.call(LOGS, "subscribe_logs", {"minLevel": "error"})["ok"]
    assert heard("m4") == ["error", "error other"]
    assert client.call(LOGS, "unsubscribe_logs") == {"ok": True, "data": {"success": True}}
    assert heard("m5") == everything
    assert client.call(LOGS, "subscribe_logs", {"flowId": "none"})["ok"]
    tenant.log("unheard")
    # A history is answered when the client's node has heard all of it, so "unheard" has passed by.
    assert client.call(LOGS, "subscribe_logs", {"flowId": "none", "history": 1})["data"]["logs"] == []
    # A refused subscription leaves the one before it.
    assert not client.call(LOGS, "subscribe_logs", {"history": -1})["ok"]
    assert client.call(LOGS, "unsubscribe_logs")["ok"]
    assert heard("m6") == everything


def test_clients_get_one_delivery_each(tenant: Tenant) -> None:
    clients = [tenant.plain(LOGS, "/flows") for _ in range(4)]
    for client in clients[1:]:
        assert client.call(LOGS, "subscribe_logs", {"flowId": "f1", "history": 1})["ok"]
    wanted = [f"m{number}" for number in range(30)]
    for message in wanted:
        tenant.log(message, level="error", flowId="f1", runId="r1")
    for client in clients:
        assert hears(client, lambda: None, wanted[-1]) == wanted
        assert live(client) == []


def test_history_then_live_has_no_gap_and_no_duplicate(tenant: Tenant) -> None:
    """Clients subscribe again and again, while two publishers write as fast as they can."""
    published: list[str] = []
    stop = threading.Event()
    failures: list[BaseException] = []

    def publish(flow: str) -> None:
        try:
            for number in range(100_000):
                if stop.is_set():
                    return
                tenant.log(f"{flow} {number}", flowId=flow)
                published.append(flow)
        except BaseException as error:
            failures.append(error)

    clients = [tenant.plain(LOGS) for _ in range(6)]
    threads = [threading.Thread(target=publish, args=(flow,)) for flow in ("f1", "f2")]
    for thread in threads:
        thread.start()
    try:
        until(lambda: len(published) > 20)
        for _ in range(15):
            for client in clients:
                client.settle(LOGS)
                client.emit(LOGS, "subscribe_logs", {"flowId": "f1", "history": 1000}, id=1)
            for client in clients:
                answer = client._next(lambda m: m.kind == ACK and m.id == 1).content[0]
                numbers = [int(log["message"].split()[1]) for log in answer["data"]["logs"]]
                # Events of before the subscription stand before its answer; these two follow it.
                client._waiting.clear()
                for _ in range(2):
                    log = client.told(LOGS, "new_log")["log"]
                    assert log["flowId"] == "f1"
                    numbers.append(int(log["message"].split()[1]))
                assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), numbers[-5:]
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)
    assert not failures
    assert len(published) > 100


def test_the_javascript_client_follows_while_a_publisher_runs(tenant: Tenant) -> None:
    """Stock clients on default transports, which begin with polling and are upgraded in the middle."""
    stop = threading.Event()

    def publish() -> None:
        for number in range(100_000):
            if stop.is_set():
                return
            tenant.log(str(number), flowId="f1")
            time.sleep(0.002)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        lines = tenant.js("logs.mjs", "8", "300").splitlines()
    finally:
        stop.set()
        thread.join(10)
    outcomes = [json.loads(line) for line in lines]
    assert len(outcomes) == 8
    for outcome in outcomes:
        assert outcome["problems"] == []
        assert outcome["live"] >= 300 and outcome["history"] >= 1
        assert outcome["transport"] == "websocket"


def test_the_python_client_by_polling_and_by_websocket(tenant: Tenant) -> None:
    watchers = [tenant.watcher(LOGS, transports=[name]) for name in ("polling", "websocket")]
    for watcher in watchers:
        assert watcher.call(LOGS, "subscribe_logs", {"flowId": "f1"}) == {
            "ok": True,
            "data": {"success": True, "logs": []},
        }
    wanted = [f"m{number}" for number in range(50)]
    tenant.log(*wanted[:25], flowId="f1")
    tenant.log("unheard", flowId="f2")
    tenant.log(*wanted[25:], flowId="f1")
    for watcher in watchers:
        heard = watcher.wait("new_log", 50)
        assert texts([payload["log"] for payload in heard]) == wanted
        watcher.send(LOGS, "filter_logs", {"search": "unheard"})
        assert texts(watcher.wait("filter_logs")[0]["logs"]) == ["unheard"]
        watcher.send(LOGS, "nonsense")
        assert watcher.wait("error")[0]["code"] == "unknown_event"
        assert len(watcher.heard("new_log")) == 50


def test_a_new_subscription_leaves_no_gap_behind_the_old_one(tenant: Tenant) -> None:
    """A client that has a feed and asks for the same one with a little history misses nothing in between."""
    stop, failures = threading.Event(), []

    def publish() -> None:
        try:
            for number in range(100_000):
                if stop.is_set():
                    return
                tenant.log(*(str(10 * number + digit) for digit in range(10)), flowId="f1")
        except BaseException as error:
            failures.append(error)

    clients = [tenant.plain(LOGS) for _ in range(4)]
    thread = threading.Thread(target=publish)
    thread.start()
    try:
        for client in clients:
            client.told(LOGS, "new_log")
        for _ in range(20):
            for client in clients:
                client.emit(LOGS, "subscribe_logs", {"history": 1}, id=1)
            for client in clients:
                client._next(lambda m: m.kind == ACK and m.id == 1)
    finally:
        stop.set()
        thread.join(10)
    assert not failures
    for client in clients:
        heard = [int(message) for message in live(client)]
        # The one record of each history is not among them, so a hole of one is none.
        holes = [(a, b) for a, b in zip(heard, heard[1:], strict=False) if not 1 <= b - a <= 2]
        assert not holes


def test_more_commands_than_wait_at_once_are_each_answered_once(tenant: Tenant) -> None:
    tenant.log(*(["x" * 2000] * 200))
    client = tenant.plain(LOGS)
    for number in range(600):
        client.emit(LOGS, "filter_logs", {"search": "y"}, id=number)
    outcomes: dict[int, Any] = {}
    while len(outcomes) < 600:
        answer = client._next(lambda m: m.kind == ACK, 20)
        assert answer.id is not None and answer.id not in outcomes
        outcomes[answer.id] = answer.content[0]
    assert all(outcome["ok"] for outcome in outcomes.values()) and list(outcomes) == list(range(600))
    assert client.settle(LOGS) == []
