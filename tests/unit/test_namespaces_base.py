"""The frame: one answer to each command, by ack or by event, whatever is sent and whatever goes wrong."""

import json
import logging
import time
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
import pytest
import socketio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mintflow_realtime.admission.clients import Client
from mintflow_realtime.namespaces.base import Namespace, handles
from mintflow_realtime.protocol.errors import Conflict, Forbidden, NotFound, RealtimeError, TooLarge, Unavailable
from mintflow_realtime.protocol.scripts import Keys
from mintflow_realtime.protocol.wire_json import loads
from mintflow_realtime.stores.redis.client import RedisClient
from mintflow_realtime.stores.redis.connect import connect
from tests.house import Answers, House
from tests.servers import token


class Say(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    word: str
    times: Annotated[int, msgspec.Meta(ge=0, le=9)] = 1
    inner: "Say | None" = None


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    pass


class Talk(Namespace):
    """A namespace whose handlers do what they are told."""

    def __init__(self) -> None:
        super().__init__("/talk")
        self.todo: Callable[[Client], Any] = lambda client: None

    @handles(Say)
    def say(self, client: Client, command: Say) -> Any:
        return {"said": command.word * command.times}

    @handles(Nothing)
    def do(self, client: Client, command: Nothing) -> Any:
        return self.todo(client)

    @handles(Nothing, name="clear", answer="cleared")
    def clear_everything(self, client: Client, command: Nothing) -> Any:
        return None


@pytest.fixture
def house(runner: RedisClient, keys: Keys) -> House:
    found = House(runner, keys)
    found.serve(Talk())
    return found


@pytest.fixture
def client(house: House) -> Client:
    return house.join("/talk")


def test_an_ack_alone_or_the_event_of_the_commands_name_alone(house: House, client: Client) -> None:
    assert house.ask(client, "say", {"word": "a"}) == {"ok": True, "data": {"said": "a"}}
    assert house.ask(client, "say", {"word": "a"}, acked=False) == ("say", {"said": "a"})
    assert house.ask(client, "clear", acked=False) == ("cleared", None)
    assert house.ask(client, "clear") == {"ok": True, "data": None}


@pytest.mark.parametrize("args", [[], [None], [{}]])
def test_a_command_without_fields_may_come_without_a_payload(house: House, client: Client, args: list[Any]) -> None:
    assert house.ask(client, "do", *args) == {"ok": True, "data": None}


@pytest.mark.parametrize(
    ("args", "path"),
    [
        ([], "$.word"),
        ([None], "$.word"),
        ([1], "$"),
        ([[]], "$"),
        (["word"], "$"),
        ([{}], "$.word"),
        ([{"word": 1}], "$.word"),
        ([{"word": "a", "times": "2"}], "$.times"),
        ([{"word": "a", "times": 2.5}], "$.times"),
        ([{"word": "a", "extra": 1}], "$.extra"),
        ([{"word": "a", "x" * 5000: 1}], "$." + "x" * 298),
        ([{"word": "a", "inner": {}}], "$.inner.word"),
        ([{"word": "a", "inner": {"word": "b", "extra": 1}}], "$.inner.extra"),
        ([{"word": "a", "inner": {"word": "b", "inner": {"word": 1}}}], "$.inner.inner.word"),
        ([{"word": "a", "times": 2**70}], "$.times"),
        ([{"word": "a"}, {"word": "b"}], "$"),
        ([{"word": "a"}] * 1000, "$"),
        ([{"word": b"\xff"}], "$.word"),
    ],
)
def test_a_payload_of_another_form_is_named_by_its_path(
    house: House, client: Client, args: list[Any], path: str
) -> None:
    for acked in (True, False):
        answer = house.ask(client, "say", *args, acked=acked)
        error = answer["error"] if acked else answer[1]
        assert (error["code"], error["path"], error["retryable"]) == ("invalid_payload", path, False)
        assert acked or answer[0] == "error" and error["event"] == "say"


def test_nesting_deeper_than_can_be_read_is_a_wrong_payload(house: House, client: Client) -> None:
    deep: Any = {"word": "a"}
    for _ in range(5000):
        deep = {"word": "a", "inner": deep}
    assert house.refused(client, "say", deep) == "invalid_payload"


@pytest.mark.parametrize(
    "event",
    [
        "connect",
        "disconnect",
        "connect_error",
        "respond",
        "busy",
        "joined",
        "_read",
        "__init__",
        "",
        "Say",
        "say ",
        "é" * 500,
        "clear_everything",
        "namespace",
        "context",
    ],
)
def test_only_the_commands_that_are_marked_exist(house: House, client: Client, event: str) -> None:
    """Row 1 and row 29: in the library a client reaches `on_connect`, and an unknown event is acked like a success."""
    assert house.refused(client, event, {}) == "unknown_event"
    name, error = house.ask(client, event, {}, acked=False)
    assert (name, error["event"], error["code"]) == ("error", event[:128], "unknown_event")
    assert len(error["message"]) < 200


@pytest.mark.parametrize("event", ["say", "do", "clear", "auth_refresh"])
def test_every_namespace_has_its_marked_commands_and_auth_refresh(house: House, event: str) -> None:
    assert event in Talk._commands
    assert Namespace._commands.keys() == {"auth_refresh"} if hasattr(Namespace, "_commands") else True
    assert event == "auth_refresh" or event not in house.handlers["/logs"]._commands


@pytest.mark.parametrize("kind", [Conflict, Forbidden, NotFound, TooLarge, Unavailable, RealtimeError])
def test_an_error_of_the_tree_is_told_as_it_is(house: House, client: Client, kind: type[RealtimeError]) -> None:
    def fail(_: Client) -> None:
        raise kind("why", version=3)

    house.handlers["/talk"].todo = fail
    told = {"code": kind.code, "message": "why", "retryable": kind is Unavailable, "version": 3}
    assert house.ask(client, "do") == {"ok": False, "error": told}
    assert house.ask(client, "do", acked=False) == ("error", {"event": "do", **told})


def fault(_: Client) -> Any:
    raise LookupError("secret /etc/passwd")


@pytest.mark.parametrize(
    "todo",
    [fault, lambda _: object(), lambda _: {"a": {1: object()}}, lambda _: 1j, lambda _: 1 / 0],
)
def test_any_other_error_is_internal_with_a_correlation_id_and_nothing_else(
    house: House, client: Client, todo: Callable[[Client], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Row 29: in the library a handler that raises never acks."""
    house.handlers["/talk"].todo = todo
    for acked in (True, False):
        caplog.clear()
        answer = house.ask(client, "do", acked=acked)
        error = answer["error"] if acked else answer[1]
        correlation = error.pop("correlationId")
        error.pop("event", None)
        assert error == {"code": "internal", "message": "Something went wrong here", "retryable": False}
        (record,) = caplog.records
        assert record.correlation_id == correlation and record.exc_info and record.levelno == logging.ERROR


def test_a_redis_error_of_ours_is_internal_and_not_told(house: House, client: Client, runner: RedisClient) -> None:
    house.handlers["/talk"].todo = lambda _: runner.command("NOSUCH")
    answer = house.ask(client, "do")
    assert answer["error"]["code"] == "internal" and "NOSUCH" not in json.dumps(answer)


def test_one_who_left_in_the_middle_gets_no_answer_and_makes_no_noise(
    house: House, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    def leave(one: Client) -> None:
        house.gate.left(one.sid, one.namespace)
        house.manager.disconnect(one.sid, one.namespace, ignore_queue=True)
        house.manager.enter(one.sid, one.namespace, "acme:x")

    house.handlers["/talk"].todo = leave
    answers = Answers(True)
    house.handlers["/talk"].respond(client.sid, "do", [], answers)
    house.handlers["/talk"].respond(client.sid, "do", [], answers)
    assert (answers.acks, answers.events, caplog.records) == ([], [], [])


def test_a_command_above_the_limit_is_answered_too(house: House) -> None:
    answers = Answers(True)
    house.handlers["/talk"].busy(answers, "do")
    assert answers.only["error"]["code"] == "rate_limited" and answers.only["error"]["retryable"] is True
    answers = Answers(False)
    house.handlers["/talk"].busy(answers, "do")
    assert (answers.only[0], answers.only[1]["event"], answers.only[1]["code"]) == ("error", "do", "rate_limited")


def test_a_token_that_has_ended_is_said_so_but_may_be_refreshed(house: House) -> None:
    """The connection is closed soon after; between the two no command passes."""
    who = house.access.admit(token("ann"), "acme", "e1")
    client = house.join(
        "/talk", kind="jwt", user_id="ann", permissions=who.permissions, admin=False, expires_at=time.time() - 1
    )
    assert house.refused(client, "do") == "token_expired"
    assert house.ask(client, "do", acked=False)[1]["code"] == "token_expired"
    assert "expiresAt" in house.did(client, "auth_refresh", {"token": token("ann")})
    assert house.did(client, "do") is None


@pytest.mark.parametrize(
    ("refreshed", "code"),
    [
        (lambda: token("bob"), "forbidden"),
        (lambda: token("ann", ["other"]), "forbidden"),
        (lambda: token("ann", scope="admin logs:read"), "forbidden"),
        (lambda: token("ann", exp=int(time.time()) - 100), "token_expired"),
        (lambda: "garbage", "authentication_failed"),
        (lambda: "", "invalid_payload"),
    ],
)
def test_a_refresh_never_widens(house: House, refreshed: Callable[[], str], code: str) -> None:
    who = house.access.admit(token("ann"), "acme", "e1")
    client = house.join(
        "/talk", kind="jwt", user_id="ann", permissions=who.permissions, admin=False, expires_at=who.expires_at
    )
    assert house.refused(client, "auth_refresh", {"token": refreshed()}) == code
    assert client.principal.user_id == "ann" and client.principal.tenant == "acme"


def test_a_handler_of_a_subclass_replaces_its_parents() -> None:
    class Louder(Talk):
        @handles(Say)
        def say(self, client: Client, command: Say) -> Any:
            return command.word.upper()

    assert Louder._commands.keys() == Talk._commands.keys()


def test_the_answer_is_followed_by_the_end_of_a_hold(house: House, client: Client) -> None:
    house.handlers["/talk"].todo = lambda one: house.manager.begin_history(one.sid, "/talk", "acme:x")
    house.ask(client, "do")
    assert house.manager._held == {}
    house.handlers["/talk"].todo = lambda one: (house.manager.begin_history(one.sid, "/talk", "acme:x"), 1 / 0)
    house.ask(client, "do")
    assert house.manager._held == {}


def test_what_the_library_does_with_the_same_commands() -> None:
    """Row 29: silence for a handler that raises and for wrong arguments, and a success for what nobody knows."""

    class Stock(socketio.Namespace):
        def on_raise(self, sid: str) -> None:
            raise LookupError

        def on_one(self, sid: str, value: Any) -> None:
            pass

    server, acks = socketio.Server(async_mode="threading", async_handlers=False), []
    server.register_namespace(Stock("/talk"))
    server._send_packet = lambda eio_sid, packet: acks.append(packet.data)
    sid = server.manager.pre_connect("e1", "/talk")
    server.manager.connect(sid, "/talk")
    for event in (["raise"], ["one", 1, 2]):
        with pytest.raises((LookupError, TypeError)):
            server._handle_event("e1", "/talk", 1, event)
    assert acks == []
    server._handle_event("e1", "/talk", 1, ["unheard_of"])
    assert acks == [[]]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
IDISH = st.sampled_from(["f1", "r1", "1-1", "-", "a:b", "", "x" * 200]) | st.text(max_size=5)
FIELDS = {
    "flowId": IDISH,
    "runId": IDISH,
    "nodeId": IDISH,
    "logId": IDISH,
    "limit": st.integers(-1, 2000) | JSON,
    "history": st.integers(-1, 2000) | JSON,
    "before": st.sampled_from(["1-1", "0-0", "9" * 15 + "-" + "9" * 15, "x", "1-"]) | JSON,
    "since": st.integers(-1, 2**53 + 1) | JSON,
    "minLevel": st.sampled_from(["debug", "error", "x"]) | JSON,
    "logLevel": st.sampled_from(["debug", ["warn"], [], ["x"]]) | JSON,
    "search": st.text(max_size=5) | JSON,
    "from": st.sampled_from(["2026-01-31T08:15:30Z", "2026-01-31", "0001-01-01T00:00:00+23:59", "x"]) | JSON,
    "to": st.sampled_from(["2026-01-31T08:15:30Z", "9999-12-31T23:59:59-23:59", "x"]) | JSON,
    "token": st.text(max_size=30) | JSON,
}
PAYLOADS = st.fixed_dictionaries({}, optional=FIELDS) | JSON
COMMANDS = (
    [
        ("/logs", name)
        for name in ("log_history", "filter_logs", "clear_logs", "subscribe_logs", "unsubscribe_logs", "auth_refresh")
    ]
    + [("/flows", name) for name in ("subscribe_flow", "unsubscribe_flow", "auth_refresh")]
    + [("/", "auth_refresh")]
)


@pytest.mark.parametrize(("namespace", "command"), COMMANDS)
@given(args=st.lists(PAYLOADS, max_size=2), acked=st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_command_answers_once_whatever_it_is_sent(
    runner: RedisClient, keys: Keys, namespace: str, command: str, args: list[Any], acked: bool
) -> None:
    house = House(runner, keys)
    client = house.join(namespace)
    try:
        args = loads(json.dumps(args, ensure_ascii=True))
    except ValueError:
        return
    house.logs.append("acme", message="m", flow_id="f1", run_id="r1")
    house.flows.started("acme", "f1", "r1")
    answer = house.ask(client, command, *args, acked=acked)
    text = json.dumps(answer)
    assert "Traceback" not in text and "Error(" not in text and "redis" not in text.lower()
    if acked:
        assert answer.keys() in ({"ok", "data"}, {"ok", "error"})
        assert answer["ok"] or answer["error"]["code"] != "internal", answer
    else:
        assert answer[0] in (command, "error") and answer[1].get("code") != "internal", answer
    assert house.manager._held == {} or namespace != "/"


@pytest.mark.parametrize(
    ("namespace", "command", "payload"),
    [
        ("/logs", "log_history", {}),
        ("/logs", "filter_logs", {"search": "x"}),
        ("/logs", "clear_logs", {"flowId": "f"}),
        ("/logs", "subscribe_logs", {"history": 5}),
        ("/flows", "subscribe_flow", {"runId": "r"}),
    ],
)
def test_without_redis_every_command_that_needs_it_is_unavailable(
    keys: Keys, namespace: str, command: str, payload: Any
) -> None:
    house = House(RedisClient(connect("redis://127.0.0.1:1/0")), keys)
    client = house.join(namespace)
    before = sorted(house.manager.get_rooms(client.sid, namespace))
    answer = house.ask(client, command, payload)
    assert (answer["error"]["code"], answer["error"]["retryable"]) == ("unavailable", True)
    assert "127.0.0.1" not in json.dumps(answer)
    assert sorted(house.manager.get_rooms(client.sid, namespace)) == before
    assert house.manager._held == {}
