"""Why somebody got an event, or didn't: each answer, over two workers, by the API and the command."""

import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from mintflow_realtime.stores.nodes.roster import LINE_BYTES
from tests.command import run
from tests.integration.test_connections import admin, ask
from tests.plain_client import CONNECT, CONNECT_ERROR, Plain
from tests.redis_fixture import PrivateRedis
from tests.servers import Node, stopping, until
from tests.tenants import Tenant

NewTenant = Callable[[Node], Tenant]
STARTED = {"type": "flow_started"}


@pytest.fixture
def here(two_workers: Node, new_tenant: NewTenant) -> Tenant:
    return new_tenant(two_workers)


def why(tenant: Tenant, offset: str, user: str = "ann", **query: str) -> dict[str, Any]:
    more = "".join(f"&{name}={value}" for name, value in query.items())
    found = ask(tenant, f"/why?offset={offset}&userId={user}{more}", headers=admin(tenant))
    assert found["offset"] == offset and found["numberedAt"].endswith("Z")
    return dict(found)


def only(found: dict[str, Any]) -> tuple[str, str]:
    (one,) = found["connections"]
    return one["outcome"], one["sentence"]


def heard(tenant: Tenant, offset: str, **query: str) -> dict[str, Any]:
    """Ask until the node of a client has heard the event."""

    def asked() -> Any:
        found = why(tenant, offset, **query)
        return found if found["nodes"] else None

    return dict(until(asked, 20, offset))


def test_delivered_live(here: Tenant) -> None:
    ann = here.plain("/flows")
    other = here.plain("/flows", user="bob")
    assert ann.call("/flows", "subscribe_flow", {"runId": "r1"})["ok"]
    (offset,) = here.run("f", "r1", STARTED)
    ann.told("/flows", "flow_started")
    found = heard(here, offset)
    (one,) = found["connections"]
    assert one["outcome"] == "delivered" and one["sid"] == ann.sids["/flows"]
    assert one["sentence"] == f"delivered live at {one['at']}"
    assert found["namespace"] == "/flows" and found["name"] == "flow_started"
    assert f"{here.name}:run:r1" in found["rooms"] and one["nodeId"] in [node["nodeId"] for node in found["nodes"]]
    outcome, sentence = only(why(here, offset, "bob"))
    whole_tenant = f"{here.name}:" in found["rooms"]
    assert outcome == ("delivered" if whole_tenant else "not_in_room"), sentence
    assert other.sids["/flows"]


def test_not_in_the_room_any_more_and_not_yet(here: Tenant) -> None:
    ann = here.plain("/flows")
    node_event = {"type": "node_started", "nodeId": "n"}
    (before,) = here.run("f", "r1", node_event)
    assert ann.call("/flows", "subscribe_flow", {"runId": "r1"})["ok"]
    (inside,) = here.run("f", "r1", node_event)
    ann.told("/flows", "node_started")
    assert ann.call("/flows", "unsubscribe_flow", {"runId": "r1"})["ok"]
    (after,) = here.run("f", "r1", node_event)
    outcome, sentence = only(heard(here, before))
    assert outcome == "not_in_room" and "not in the room: entered at" in sentence, sentence
    assert only(heard(here, inside))[0] == "delivered"
    outcome, sentence = only(heard(here, after))
    assert outcome == "not_in_room" and "not in the room: left at" in sentence, sentence


def test_not_connected_before_and_after_and_never(here: Tenant) -> None:
    (early,) = here.log("early")
    ann = here.plain("/logs")
    (inside,) = here.log("inside")
    ann.told("/logs", "new_log")
    # Who only goes may have missed what was under way.
    ann.send("41/logs,")
    until(lambda: not ask(here, "/connections")["connections"], 20)
    (late,) = here.log("late")
    outcome, sentence = only(why(here, early))
    assert outcome == "not_connected" and "not connected: it came at" in sentence, sentence
    assert only(why(here, inside))[0] == "delivered"
    outcome, sentence = only(why(here, late))
    assert outcome == "not_connected" and "not connected: closed at" in sentence, sentence
    outcome, sentence = only(why(here, late, "nobody"))
    assert outcome == "not_connected" and "nobody wasn't in /logs" in sentence, sentence


def test_not_permitted(here: Tenant) -> None:
    (offset,) = here.log("one")
    client = Plain(here.url)
    with stopping(client):
        assert client.join("/logs", {"token": here.token(scope="flows:read")}).kind == CONNECT_ERROR
        outcome, sentence = only(why(here, offset))
        assert outcome == "not_permitted" and "the scope logs:read, refused at" in sentence, sentence
        assert client.join("/flows", {"token": here.token("bob", scope="flows:read")}).kind == CONNECT
        assert only(why(here, offset, "bob"))[0] == "not_permitted", "by a connection in another namespace"


def test_replayed_and_delivered_before_on_another_worker(here: Tenant) -> None:
    ann = here.plain()
    answer = ann.join("/logs", {"token": here.token(), "recover": True})
    pid = answer.content["pid"]
    (first,) = here.log("first")
    shown = ann.told_with_offset("/logs", "new_log")
    assert shown == first
    ann.close()
    until(lambda: not ask(here, "/connections")["connections"], 20)
    (missed,) = here.log("missed")
    back = here.plain()
    auth = {"token": here.token(), "recover": True, "pid": pid, "offset": shown}
    assert back.join("/logs", auth).content["pid"] == pid
    assert back.told_with_offset("/logs", "new_log") == missed
    (live,) = here.log("live")
    assert back.told_with_offset("/logs", "new_log") == live
    outcome, sentence = only(heard(here, missed))
    assert outcome == "replayed" and sentence.startswith("replayed at "), sentence
    assert only(heard(here, first))[0] == only(heard(here, live))[0] == "delivered"


def test_dropped(shared_redis: PrivateRedis) -> None:
    node = Node(REDIS_URL=shared_redis.url, REDIS_PREFIX="dropped", SOCKET_OUTBOX_BYTES="65536").wait_ready()
    tenant = Tenant(node)
    with stopping(node, tenant):
        ann = tenant.plain("/logs")
        # Nobody reads: the kernel's buffers fill up, then the outbox.
        offsets: list[str] = []

        def dropped() -> Any:
            offsets.extend(tenant.log(*["x" * 6_000] * 200))
            (row,) = ask(tenant, "/connections")["connections"]
            assert row["behind"] <= 12
            return row["outboxBytes"] and only(heard(tenant, offsets[-100]))[0] == "dropped"

        until(dropped, 60)
        (row,) = ask(tenant, "/connections")["connections"]
        assert row["behind"] > 0 and row["sid"] == ann.sids["/logs"]
        assert "drop_oldest" in only(heard(tenant, offsets[-100]))[1]
        outcome, sentence = only(heard(tenant, offsets[-1]))
        assert outcome == "unknown" and "reads slowly" in sentence, sentence
        assert only(why(tenant, offsets[0]))[0] == "delivered"
        # It reads again, is told, and what was dropped stays dropped.
        ann.told("/logs", "logs_dropped", 30)
        assert only(why(tenant, offsets[-100]))[0] == "dropped"
        assert only(until(lambda: (w := why(tenant, offsets[-1])) and only(w)[0] == "delivered" and w, 20))


def test_delivered_late_to_one_who_read_slowly(here: Tenant) -> None:
    ann = here.plain("/flows")
    assert ann.call("/flows", "subscribe_flow", {"flowId": "f"})["ok"]
    large = {"type": "node_failed", "nodeId": "n", "error": "x" * 60_000}

    def waits() -> Any:
        here.run("f", "r1", *[large] * 5)
        (row,) = ask(here, "/connections")["connections"]
        return row["behind"]

    until(waits, 60, "the kernel takes no more")
    began = time.monotonic()
    (offset,) = here.run("f", "r1", {"type": "flow_completed"})
    outcome, sentence = only(heard(here, offset))
    assert outcome == "unknown" and "it waits to be sent" in sentence, sentence
    # What waits for less than a second is no pause.
    until(lambda: time.monotonic() - began > 2, 10)
    ann.told("/flows", "flow_completed", 60)

    def late() -> Any:
        outcome, sentence = only(why(here, offset))
        return outcome == "delivered" and sentence

    sentence = until(late, 20)
    assert sentence.startswith("delivered live by ") and "it read slowly from" in sentence, sentence


def test_what_one_outside_was_told(here: Tenant) -> None:
    """A client that recovers learns from each event, of whatever room, how far the log has come."""
    ann = here.plain()
    assert ann.join("/flows", {"token": here.token(), "recover": True}).kind == CONNECT
    assert ann.call("/flows", "subscribe_flow", {"runId": "r1"})["ok"]
    (other,) = here.run("f", "r2", {"type": "node_started", "nodeId": "n"})
    (own,) = here.run("f", "r1", {"type": "node_started", "nodeId": "n"})
    assert ann.told_with_offset("/flows", "node_started") == own
    for _ in range(2):
        outcome, sentence = only(heard(here, other))
        assert outcome == "not_in_room" and f"that the log stood at {own}" in sentence, sentence
        ann.close()
        until(lambda: not ask(here, "/connections")["connections"], 20)


def test_taken_over_by_another_connection(here: Tenant) -> None:
    ann = here.plain()
    pid = ann.join("/logs", {"token": here.token(), "recover": True}).content["pid"]
    (first,) = here.log("first")
    assert ann.told_with_offset("/logs", "new_log") == first
    # A network that is gone for the client, and open still for its node: it comes back, and had not got the second.
    (second,) = here.log("second")
    heard(here, second)
    back = here.plain()
    auth = {"token": here.token(), "recover": True, "pid": pid, "offset": first}
    assert back.join("/logs", auth).content["pid"] == pid
    assert back.told_with_offset("/logs", "new_log") == second
    outcome, sentence = only(why(here, second))
    assert outcome == "replayed" and "when it came back" in sentence, sentence


def test_node_gone(shared_redis: PrivateRedis) -> None:
    node = Node(workers=2, REDIS_URL=shared_redis.url, REDIS_PREFIX="gone").wait_ready()
    tenant = Tenant(node)
    with stopping(node, tenant):
        for place in range(2):
            with node.accepting_only(place):
                node.wait_ready()
        with node.accepting_only(0):
            ann, bob = Plain(tenant.url), Plain(tenant.url)
        for client, user in ((ann, "ann"), (bob, "bob")):
            assert client.join("/logs", {"token": tenant.token(user)}).kind == CONNECT
        bob.send("41/logs,")
        until(lambda: len(ask(tenant, "/presence")["users"]) == 1, 20)
        (row,) = ask(tenant, "/connections")["connections"]

        # Who comes and goes is written down twice a second; a kill takes along what is younger.
        def written(lines: int) -> None:
            key = f"gone:{{-}}:node-clients:{row['nodeId']}"
            with shared_redis.client() as redis:
                until(lambda: sum(map(len, redis.lrange(key, 0, -1))) == lines * LINE_BYTES, 20)

        written(3)
        (offset,) = tenant.log("one")
        ann.told("/logs", "new_log")
        with node.accepting_only(0):
            eve = Plain(tenant.url)
        assert eve.join("/logs", {"token": tenant.token("eve")}).kind == CONNECT
        written(4)
        nodes = ask(tenant, "/nodes", headers=admin(tenant))["nodes"]
        pid = next(one["pid"] for one in nodes if one["nodeId"] == row["nodeId"])
        os.kill(pid, signal.SIGKILL)

        def gone() -> Any:
            found = why(tenant, offset)["connections"]
            return [one for one in found if one["outcome"] == "node_gone"]

        (one,) = until(gone, 30)
        assert one["nodeId"] == row["nodeId"]
        assert one["sentence"].startswith(f"node gone: ann was connected to {row['nodeId']} then")
        # Of who wasn't connected to it, or not any more, or not yet, nothing has ended with it.
        for user in ("bob", "eve", "nobody"):
            outcome, sentence = only(why(tenant, offset, user))
            assert outcome == "not_connected", (user, sentence)
        for client in (ann, bob, eve):
            client.close()


def test_who_may_ask_and_what_is_wrong_is_named(here: Tenant) -> None:
    (offset,) = here.log("one")
    assert ask(here, f"/why?offset={offset}&userId=ann", 403)["error"]["code"] == "forbidden"
    for query, path in (
        (f"offset={offset}", "$.userId"),
        ("offset=x&userId=ann", "$.offset"),
        ("userId=ann", "$.offset"),
    ):
        assert ask(here, f"/why?{query}", 400, headers=admin(here))["error"]["path"] == path
    for query in (f"offset={offset}&namespace=/flows", "offset=abc-7", f"offset={offset}&tenant=elsewhere"):
        assert ask(here, f"/why?{query}&userId=ann", 404, headers=admin(here))["error"]["code"] == "not_found"


def test_the_command(here: Tenant, two_workers: Node, shared_redis: PrivateRedis) -> None:
    ann = here.plain("/logs")
    (offset,) = here.log("one")
    ann.told("/logs", "new_log")
    heard(here, offset)
    env = {"REDIS_URL": shared_redis.url, "REDIS_PREFIX": "two"}
    asked = ("why", offset, "--user", "ann", "--tenant", here.name)

    def said(*more: str) -> str:
        done = run(*asked, *more, **env)
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    text = until(lambda: (text := said()) and "delivered live at" in text and text, 30)
    assert "new_log in /logs" in text and ann.sids["/logs"] in text and "heard by" in text
    assert json.loads(said("--json"))["connections"][0]["outcome"] == "delivered"
    url = ("--url", two_workers.url, "--token", here.token("root", scope="admin"))
    assert "delivered live at" in until(lambda: (text := said(*url)) and "delivered" in text and text, 30)
    done = run("why", "abc-1", "--user", "ann", "--tenant", here.name, **env)
    assert done.returncode == 1 and "no such event" in done.stderr
