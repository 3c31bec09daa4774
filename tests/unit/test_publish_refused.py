"""Whatever right a Redis user lacks: a publish happens whole or not at all, and goes on once the right is there."""

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mintflow_realtime.emitter import Emitter
from mintflow_realtime.fanout.publish.publisher import _once, _script
from mintflow_realtime.protocol.errors import Unavailable
from mintflow_realtime.protocol.script_rights import COMMANDS, guarded
from mintflow_realtime.protocol.scripts import Keys, Script
from mintflow_realtime.stores.logs.store import _APPEND, _CLEAR
from mintflow_realtime.stores.runs.leases import _expired as EXPIRED
from mintflow_realtime.stores.runs.leases import _look as LOOK
from mintflow_realtime.stores.runs.leases import _note as NOTE
from mintflow_realtime.stores.runs.leases import _settle as SETTLE
from mintflow_realtime.stores.runs.listing import _list as LIST
from mintflow_realtime.stores.runs.store import _ask as ASK
from mintflow_realtime.stores.runs.store import _beat as BEAT
from mintflow_realtime.stores.runs.store import _change as RUN
from mintflow_realtime.stores.runs.store import _check as CHECK
from mintflow_realtime.stores.runs.store import _unclaimed as UNCLAIMED
from mintflow_realtime.stores.workspaces.store import _UPDATE as WORKSPACE
from tests.redis_fixture import SERVERS, PrivateRedis

PREFIX = "mf0"
TENANT = "acme"


def bare(emit: Emitter, key: str) -> Any:
    return emit.publish(TENANT, "/mine", "e", {"a": 1}, idempotency_key=key)


def progress(emit: Emitter, key: str) -> Any:
    return emit.flows.progress(TENANT, "f", "r", 40, idempotency_key=key)


def lifetime(emit: Emitter, key: str) -> Any:
    return emit.flows.started(TENANT, "f", "r", name="n", tags=["a"], lease=60, idempotency_key=key)


def record(emit: Emitter, key: str) -> Any:
    return emit.logs.append(TENANT, message="hello", flow_id="f", run_id="r", node_id="n", idempotency_key=key)


def workspace(emit: Emitter, key: str) -> Any:
    return emit.workspaces.update(TENANT, "w", {"a": key}, idempotency_key=key)


def batch(emit: Emitter, key: str) -> Any:
    return emit.logs.append_many(TENANT, [{"message": f"{n}"} for n in range(60)], idempotency_key=key)


def commands_of(text: str) -> list[str]:
    return sorted(set(re.findall(r"\(\s*'([A-Z]+)'", text)) & COMMANDS)


WAYS: dict[str, tuple[Callable[[Emitter, str], Any], str, str]] = {
    "bare": (bare, "/mine", _script("").text),
    "progress": (progress, "/flows", _script(RUN).text),
    "lifetime": (lifetime, "/flows", _script(RUN).text),
    "record": (record, "/logs", _script(_APPEND).text),
    "workspace": (workspace, "/workspaces", _script(WORKSPACE).text),
    "batch": (batch, "/logs", _script(_APPEND).text),
}
EACH = [(way, command) for way, (_, _, text) in WAYS.items() for command in commands_of(text)]


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[PrivateRedis]:
    found = PrivateRedis(SERVERS[request.param])
    yield found
    found.stop()


class Limited:
    """Publishes as a user whose rights change, and tells all that is in Redis."""

    def __init__(self, server: PrivateRedis) -> None:
        self.admin = server.client()
        self.admin.flushall()
        self.give("reset", "on", ">secret", f"~{PREFIX}:*", "resetchannels", f"&{PREFIX}:*", "+@all")
        self.emit = Emitter(f"unix://app:secret@{server.path}")
        self.heard: Any = None

    def give(self, *rights: str) -> None:
        self.admin.execute_command("ACL", "SETUSER", "app", *rights)

    def listen(self, namespace: str) -> None:
        self.heard = self.admin.pubsub()
        self.channel = self.emit.publisher.channel(TENANT, namespace)
        self.heard.subscribe(self.channel)
        assert self.heard.get_message(timeout=5)["type"] == "subscribe"

    def announced(self) -> int:
        self.admin.publish(self.channel, "the end")
        count = 0
        while self.heard.get_message(timeout=5)["data"] != b"the end":
            count += 1
        return count

    def everything(self) -> dict[bytes, bytes]:
        """Return every key's value; what is laid down before a publish counts for nothing: batches, notes of leases."""
        names = [name for name in self.admin.keys("*") if b":batch" not in name and b"{-}:lease-" not in name]
        return {name: self.admin.dump(name) for name in names}

    def number(self, namespace: str) -> int:
        head = self.emit.publisher.head(TENANT, namespace)[0]
        return head.number if head else 0

    def close(self) -> None:
        self.emit.close()
        if self.heard:
            self.heard.close()
        self.admin.close()


@pytest.fixture
def limited(server: PrivateRedis) -> Iterator[Limited]:
    found = Limited(server)
    yield found
    found.close()


def refused_and_then_granted(limited: Limited, way: str, taken: tuple[str, ...], given: tuple[str, ...]) -> None:
    """Publish on an empty Redis, and on one that holds something, without a right; then with it."""
    publish, namespace, _ = WAYS[way]
    limited.listen(namespace)
    size = 60 if way == "batch" else 1
    for number, key in enumerate(("first", "second")):
        before, head = limited.everything(), limited.number(namespace)
        limited.give(*taken)
        for _ in range(3):
            with pytest.raises(Unavailable) as refused:
                publish(limited.emit, key)
            assert "NOPERM" not in str(refused.value)
        assert _published(limited.everything()) == _published(before) and limited.announced() == 0
        limited.give(*given)
        published = publish(limited.emit, key)
        assert limited.announced() >= size and limited.number(namespace) == head + size
        again = publish(limited.emit, key)
        assert again.offsets == published.offsets and limited.number(namespace) == (number + 1) * size
        limited.announced()


def _published(found: dict[bytes, bytes]) -> dict[bytes, bytes]:
    # A batch that is laid down and not yet published keeps its idempotency record, by which the next call finds it.
    return {name: value for name, value in found.items() if b":idempotency:" not in name or b":batch" in name}


@pytest.mark.parametrize(("way", "command"), EACH)
def test_a_command_that_is_refused_leaves_nothing(limited: Limited, way: str, command: str) -> None:
    name = command.lower()
    refused_and_then_granted(limited, way, (f"-{name}",), (f"+{name}",))


@pytest.mark.parametrize("way", WAYS)
def test_info_is_needed_once_a_connection(limited: Limited, way: str) -> None:
    publish, namespace, _ = WAYS[way]
    limited.listen(namespace)
    limited.give("-info")
    for _ in range(3):
        with pytest.raises(Unavailable, match=r"\+info"):
            publish(limited.emit, "first")
    assert _published(limited.everything()) == {} and limited.announced() == 0
    limited.give("+info")
    publish(limited.emit, "first")
    limited.give("-info")
    publish(limited.emit, "second")
    assert limited.number(namespace) == 2 * (60 if way == "batch" else 1)


@pytest.mark.parametrize("way", WAYS)
def test_a_channel_that_is_refused_leaves_nothing(limited: Limited, way: str) -> None:
    refused_and_then_granted(limited, way, ("resetchannels", "&other:*"), ("resetchannels", f"&{PREFIX}:*"))


@pytest.mark.parametrize("way", WAYS)
def test_a_key_that_is_refused_leaves_nothing(server: PrivateRedis, way: str) -> None:
    publish, namespace, _ = WAYS[way]
    limited = Limited(server)
    publish(limited.emit, "key")
    names = [name.decode() for name in limited.everything()]
    limited.close()
    for missing in names:
        limited = Limited(server)
        limited.listen(namespace)
        others = [f"~{name}" for name in names if name != missing]
        limited.give("resetkeys", f"~{PREFIX}:{{{TENANT}}}:batch*", f"~{PREFIX}:{{-}}:*", *others)
        with pytest.raises(Unavailable):
            publish(limited.emit, "key")
        assert _published(limited.everything()) == {} and limited.announced() == 0, missing
        limited.give(f"~{PREFIX}:*")
        publish(limited.emit, "key")
        assert limited.number(namespace) == (60 if way == "batch" else 1)
        limited.close()


def test_a_log_that_is_ahead_of_its_head_is_gone_on_from(limited: Limited) -> None:
    """As earlier versions left it where PUBLISH was refused: no later publish went through."""
    first = bare(limited.emit, "first")
    log = limited.emit.publisher._log_key(TENANT, "/mine")
    (entry,) = limited.admin.xrange(log)
    limited.admin.xadd(log, entry[1], "2-0")
    assert bare(limited.emit, "second").offset == first.offset.replace("-1", "-3")
    assert [number for number, _ in limited.admin.xrange(log)] == [b"1-0", b"2-0", b"3-0"]


def test_a_log_that_has_forgotten_why_it_is_ahead_begins_an_epoch(limited: Limited) -> None:
    first = bare(limited.emit, "first")
    log = limited.emit.publisher._log_key(TENANT, "/mine")
    limited.admin.xadd(log, {"m": "x"}, "7-0")
    limited.admin.xtrim(log, maxlen=0)
    second = bare(limited.emit, "second")
    assert second.offset.endswith("-2") and second.offset.split("-")[0] != first.offset.split("-")[0]


def started(limited: Limited) -> None:
    limited.emit.flows.started(TENANT, "f", "r")
    limited.listen("/flows")


@pytest.mark.parametrize("command", commands_of(_script(ASK).text))
def test_a_cancel_that_is_refused_leaves_nothing(limited: Limited, command: str) -> None:
    started(limited)
    before = limited.everything()
    limited.give(f"-{command.lower()}")
    with pytest.raises(Unavailable):
        limited.emit.flows.cancel(TENANT, "f", "r", idempotency_key="k")
    assert _published(limited.everything()) == _published(before) and limited.announced() == 0
    limited.give(f"+{command.lower()}")
    assert limited.emit.flows.cancel(TENANT, "f", "r", idempotency_key="k").status == "started"
    assert limited.announced() == 1


@pytest.mark.parametrize("command", commands_of(_script(UNCLAIMED).text))
def test_what_nobody_took_is_told_whole_or_not_at_all(limited: Limited, command: str) -> None:
    limited.emit.flows.cancel(TENANT, "f", limited.emit.flows.started(TENANT, "f", "r").payload["runId"])
    limited.listen("/flows")
    ((message, _),) = limited.admin.zscan_iter(f"{PREFIX}:{{{TENANT}}}:run-unclaimed")
    before = limited.everything()
    limited.give(f"-{command.lower()}")
    told = (TENANT, *message.decode().split("\n"))
    with pytest.raises(Unavailable):
        limited.emit.flows.control.tell_unclaimed(*told)
    assert limited.everything() == before and limited.announced() == 0
    limited.give(f"+{command.lower()}")
    limited.emit.flows.control.tell_unclaimed(*told)
    assert limited.announced() == 1


SCRIPTS = [script.text for script in (CHECK, BEAT, NOTE, LOOK, SETTLE, EXPIRED, LIST)]


def test_every_command_of_every_script_is_known() -> None:
    for text in (
        _script(RUN).text,
        _script(_APPEND).text,
        _script(_CLEAR).text,
        _script(WORKSPACE).text,
        _once,
        *SCRIPTS,
    ):
        assert set(re.findall(r"redis\.p?call\('([A-Z]+)'", text)) <= COMMANDS


def test_a_script_of_one_write_asks_nothing() -> None:
    assert guarded("redis.call('GET', KEYS[1]) redis.call('DEL', KEYS[1])").startswith("redis.call")


def test_asking_changes_nothing(server: PrivateRedis, keys: Keys) -> None:
    """Every command that a script may use, asked for on the oldest server by giving it so that it does nothing."""
    with contextlib.closing(server.client()) as client:
        client.flushall()
        key = keys.of(TENANT, "x")
        names = " ".join(f"('{name}')" for name in sorted(COMMANDS))
        script = Script(f"do return 'asked' end local f = print f{names.replace(' ', ' f')}")
        text = script.text.replace("local may = redis.acl_check_cmd", "local may = nil")
        assert client.eval(text, 1, key) == b"asked"
        assert client.keys("*") == [] and text != script.text
