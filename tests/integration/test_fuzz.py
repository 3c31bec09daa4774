"""Whatever a client sends has one answer or closes its connection; nobody else notices, and no fault is logged."""

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
import websocket
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from mintflow_realtime.transport.socket_io.long_messages import LONG
from tests.commands import NAMESPACES, SERVED, UNASKED
from tests.plain_client import ACK, CONNECT, CONNECT_ERROR, EVENT, Closed, Plain
from tests.redis_fixture import PrivateRedis
from tests.servers import Node, stopping, until
from tests.tenants import Tenant

CODES = set(
    "invalid_payload unknown_event not_found forbidden conflict rate_limited too_large unavailable".split()
    + ["authentication_failed", "token_expired"]
)
# The event that answers a command without an ack, where that isn't the command's own name.
ANSWERS = {(namespace, command): answer for namespace, command, answer in SERVED}
# What a fault of ours would leave in the output, or in an answer.
FAULTS = ("Traceback", 'File "/', '"level": "error"', "[ERROR]")


def few(number: int) -> Callable[[Any], Any]:
    """Let a test try `number` examples: other ones each time on a developer's machine, the same ones in CI."""
    return settings(
        max_examples=number,
        deadline=None,
        database=None,
        derandomize=bool(os.environ.get("CI")),
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    )


# Lone surrogates are not JSON text to every parser; there is a test of their own below.
letters = st.characters(exclude_categories=["Cs"])
texts = st.text(letters, max_size=200)
near_ids = st.one_of(
    st.sampled_from(
        ["f1", "r1", "", " ", "f1\n", "-f", "a" * 128, "a" * 129, "a:b", "a/b", "../..", "{acme}", "*", "f1\0"]
    ),
    texts,
)
near_texts = st.one_of(
    near_ids,
    st.sampled_from(
        ["debug", "info", "warn", "error", "INFO", "2026-01-31T08:15:30.123Z", "0001-01-01T00:00:00+23:59"]
    ),
    st.sampled_from(
        ["9999-12-31T23:59:59.999999-23:59", "2026-W01-1", "1-1", "99999999999999999999-1", "0-0", "1-0x1"]
    ),
    st.sampled_from(["eyJhbGciOiJub25lIn0.e30.", "t1.", "t1.a.b.c", ".", "..", "a.b.c", "é" * 3000, "a" * 9000]),
)
numbers = st.one_of(
    st.integers(-2, 1002),
    st.sampled_from([2**31, 2**53, 2**53 + 1, 2**63, 2**64, -(2**63) - 1, 10**40, 0.5, -0.0, 1e308, 5e-324, True]),
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, near_texts),
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(near_texts, inner, max_size=5)),
    max_leaves=20,
)
fields = st.sampled_from(
    "flowId runId nodeId logId logLevel minLevel search from to limit before history since token".split()
    + "workspaceId userId userName deltas state partial patch baseVersion presence".split()
    + "requestId prompt model stream options conversationId after temperature maxTokens".split()
    + ["__class__", "_placeholder", "num"]
)
payloads = st.one_of(values, st.dictionaries(fields, values, max_size=6))
operations = st.fixed_dictionaries(
    {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test", "merge"]) | values},
    optional={
        "path": st.sampled_from(["", "/", "/a", "/a/b", "/a/-", "/a/0", "/~", "/~01", "a", "/a" * 40]) | values,
        "from": st.sampled_from(["", "/a", "/a/b", "/b/-1"]) | values,
        "value": values,
    },
)
# Nearly right, or right, each field of which may be anything: what is checked late is reached by these alone.
ALMOST: dict[str, Any] = {
    "join_workspace": {"workspaceId": st.just("w1"), "deltas": st.booleans(), "userName": texts},
    "leave_workspace": {"workspaceId": st.just("w1")},
    "update_workspace": {
        "workspaceId": st.just("w1"),
        "state": st.dictionaries(near_texts, values, max_size=4),
        "patch": st.lists(operations, max_size=4),
        "partial": st.booleans(),
        "baseVersion": st.integers(0, 3),
    },
    "update_presence": {"workspaceId": st.just("w1"), "presence": st.dictionaries(near_texts, values, max_size=4)},
    "ai_request": {
        "requestId": near_ids,
        "prompt": texts,
        "stream": st.booleans(),
        "conversationId": near_ids,
        "options": st.fixed_dictionaries({}, optional={"temperature": numbers, "maxTokens": numbers}),
    },
    "cancel_stream": {"requestId": near_ids},
    "resume_stream": {"requestId": near_ids, "after": numbers},
    "clear_history": {"conversationId": near_ids},
}


def payloads_of(command: str) -> st.SearchStrategy[Any]:
    """Return payloads for a command: anything, and what it almost takes."""
    almost = ALMOST.get(command)
    if almost is None:
        return payloads
    right = {name: one | values if name != "workspaceId" else one | near_ids for name, one in almost.items()}
    return payloads | st.fixed_dictionaries({}, optional=right) | st.fixed_dictionaries({}, optional=almost)


@pytest.fixture(scope="module")
def tenant(closed_node: Node) -> Iterator[Tenant]:
    tenant = Tenant(closed_node)
    tenant.log("one", "two", flowId="f1", runId="r1", nodeId="n1")
    tenant.run("f1", "r1", {"type": "flow_started"})
    with stopping(tenant):
        yield tenant


@pytest.fixture(scope="module")
def healthy(tenant: Tenant) -> Plain:
    """A client that must notice nothing."""
    return tenant.plain("/", "/logs", "/flows", user="healthy")


@pytest.fixture(scope="module")
def hostile(tenant: Tenant) -> Plain:
    """A client whose payloads are malformed, and whose packets are not: it stays connected all the time."""
    client = tenant.plain(*NAMESPACES)
    assert client.call("/workspaces", "join_workspace", {"workspaceId": "w1"})["ok"]
    return client


@pytest.fixture(autouse=True)
def no_fault(tenant: Tenant, healthy: Plain) -> Iterator[None]:
    """Check that the node has reported nothing of its own, lives, and serves."""
    pid, written = tenant.node.workers(), len(tenant.node.text())
    yield
    assert healthy.call("/logs", "log_history", {"limit": 1})["ok"]
    said = tenant.node.text()[written:]
    assert not [fault for fault in FAULTS if fault in said], said[:3000]
    assert tenant.node.workers() == pid


def check_answer(client: Plain, namespace: str, event: str, id: int | None) -> None:
    """Check that what was just sent has exactly one answer, of the form that was asked for."""
    expected = ANSWERS.get((namespace, event), event)
    answers = client.settle(namespace)
    # Requests and updates that were right after all are told to all who follow them, also later.
    answers = [one for one in answers if one.kind != EVENT or one.content[0] not in UNASKED - {expected}]
    if not expected and id is None and not answers:
        return
    assert len(answers) == 1, answers
    (answer,) = answers
    text = json.dumps(answer.content)
    assert not [fault for fault in FAULTS if fault in text]
    if id is not None:
        assert (answer.kind, answer.id) == (ACK, id)
        (outcome,) = answer.content
        if outcome["ok"]:
            assert set(outcome) == {"ok", "data"}
            return
        assert set(outcome) == {"ok", "error"}
        error = outcome["error"]
    else:
        assert answer.kind == EVENT and answer.id is None
        name, error = answer.content
        if name != "error":
            assert name == expected
            return
        assert error["event"] == event
    assert error["code"] in CODES, error
    assert isinstance(error["message"], str) and isinstance(error["retryable"], bool)


# Payloads


@pytest.mark.parametrize(("namespace", "command"), [one[:2] for one in SERVED])
@few(80)
@given(more=st.data(), acked=st.booleans())
def test_a_malformed_payload_has_one_answer(
    hostile: Plain, healthy: Plain, namespace: str, command: str, more: st.DataObject, acked: bool
) -> None:
    one = payloads_of(command)
    arguments = more.draw(st.one_of(one.map(lambda payload: [payload]), st.lists(one, max_size=3)))
    id = 7 if acked else None
    hostile.emit(namespace, command, *arguments, id=id)
    check_answer(hostile, namespace, command, id)
    assert healthy.call("/flows", "unsubscribe_flow", {"flowId": "f1"})["ok"]


@few(80)
@given(
    namespace=st.sampled_from(NAMESPACES),
    event=st.one_of(texts, st.sampled_from(["connect", "disconnect", "error", "__init__", "context", "*", "message"])),
    arguments=st.lists(payloads, max_size=2),
    id=st.one_of(st.none(), st.integers(0, 999)),
)
def test_an_event_of_any_name_has_one_answer(
    hostile: Plain, namespace: str, event: str, arguments: list[Any], id: int | None
) -> None:
    hostile.emit(namespace, event, *arguments, id=id)
    check_answer(hostile, namespace, event, id)


@few(40)
@given(place=st.sampled_from(["payload", "flowId", "search", "deep"]), content=st.binary(max_size=300))
def test_bytes_where_text_belongs_are_an_invalid_payload(hostile: Plain, place: str, content: bytes) -> None:
    hole = {"_placeholder": True, "num": 0}
    payload: Any = hole if place == "payload" else {"search": [hole]} if place == "deep" else {place: hole}
    hostile.send(f"451-/logs,7{json.dumps(['filter_logs', payload])}")
    hostile.send(content)
    (answer,) = hostile.settle("/logs")
    assert (answer.kind, answer.id) == (ACK, 7)
    assert answer.content[0]["error"]["code"] == "invalid_payload"


@pytest.mark.parametrize("place", ["search", "flowId", "unknown field"])
def test_half_a_surrogate_pair_is_answered_too(tenant: Tenant, place: str) -> None:
    """A browser's `text.slice(0, 10)` may cut an emoji in two, and JSON.stringify writes that as \\ud83d."""
    client = tenant.plain("/logs")
    text = '{"\\ud83d": 1}' if place == "unknown field" else f'{{"{place}": "cut \\ud83d"}}'
    client.send(f'42/logs,7["filter_logs",{text}]')
    (answer,) = client.settle("/logs")
    assert (answer.kind, answer.id) == (ACK, 7)


def test_an_answer_is_short_however_long_the_question(hostile: Plain) -> None:
    for arguments in (
        ["log_history", {"x" * 500_000: 1}],
        ["x" * 500_000],
        ["filter_logs", {"logLevel": "x" * 500_000}],
        ["auth_refresh", {"token": "x" * 500_000}],
    ):
        for id in (7, None):
            hostile.emit("/logs", *arguments, id=id)
            (answer,) = hostile.settle("/logs")
            assert len(json.dumps(answer.content)) < 2000, arguments[0][:20]


def test_a_binary_event_that_is_not_whole_closes_the_connection(tenant: Tenant) -> None:
    """The library takes any message for the missing attachment, also a text: that message is then lost."""

    def begun(num: Any) -> str:
        hole = {"_placeholder": True, "num": num}
        return f"451-/logs,7{json.dumps(['log_history', hole])}"

    for messages in (
        (begun(0), '42/logs,8["log_history"]'),
        (begun(-1), b"x"),
        (begun(5), b"x"),
        (begun("0"), b"x"),
        (b"x",),
    ):
        client = tenant.plain("/logs")
        with pytest.raises((Closed, OSError, websocket.WebSocketException)):
            for message in messages:
                client.send(message)
            client.settle("/logs")
        assert client._waiting == [], messages


# Connect payloads


@few(120)
@given(
    namespace=st.sampled_from([*NAMESPACES, "/nonsense"]),
    auth=st.one_of(
        values, st.dictionaries(st.sampled_from(["token", "tenantId", "pid", "offset", "recover"]), values, max_size=4)
    ),
)
def test_any_connect_payload_is_accepted_or_refused_with_a_code(tenant: Tenant, namespace: str, auth: Any) -> None:
    client = Plain(tenant.url)
    with stopping(client):
        connect = f"40{'' if namespace == '/' else namespace + ','}{json.dumps(auth)}"
        client.send(connect)
        try:
            answer = client._next(lambda m: m.kind in (CONNECT, CONNECT_ERROR))
        except Closed:
            # A payload that begins with a digit is not CONNECT's payload but an ack id, say; that is garbage. And
            # nobody unknown may send more than a token needs.
            assert not isinstance(auth, dict) or len(connect) > LONG
            return
        assert answer.kind == CONNECT_ERROR, "there is no good token in it"
        assert answer.content["message"]
        if namespace != "/nonsense":
            assert answer.content["data"]["code"] in ("authentication_required", "authentication_failed")


@few(60)
@given(query=st.one_of(texts, st.binary(max_size=60)), header=st.text(st.characters(max_codepoint=255), max_size=60))
def test_any_query_and_header_are_accepted_or_refused(tenant: Tenant, query: str | bytes, header: str) -> None:
    quoted = ("q=" if len(query) % 2 else "token=") + requests.compat.quote(query)
    header = "".join(char for char in header if char.isprintable())
    for value in (header, "Bearer " + header):
        client = Plain(tenant.url, query=quoted, headers={"Authorization": value.encode("latin-1").decode("latin-1")})
        with stopping(client):
            assert client.join("/logs").content["data"]["code"] in ("authentication_required", "authentication_failed")


# Packets


junk = st.one_of(
    st.sampled_from(
        [
            "",
            "0",
            "1",
            "2probe",
            "3",
            "4",
            "5",
            "6",
            "7",
            "9",
            "b4",
            "40",
            "41",
            "41/logs,",
            "42",
            "42[]",
            "42[5]",
            "42[null]",
            "42/logs,",
            "42/logs,[",
            '42/logs,{"a":1}',
            "42/logs,12345678901234567890[]",
            "43/logs,1[]",
            "43/logs,1{}",
            '43/logs,99999["x"]',
            "44{}",
            "45",
            '451-["x",{"_placeholder":true,"num":0}]',
            '451-/logs,["log_history",{"_placeholder":true,"num":5}]',
            '451-/logs,["log_history",{"_placeholder":true,"num":-1}]',
            '451-/logs,["log_history",{"_placeholder":true,"num":"0"}]',
            '4510-/logs,["log_history"]',
            '4511-/logs,["log_history"]',
            "459999999999-[]",
            "461-[]",
            "46",
            "47",
            "40" + "[" * 5000,
            "42/logs," + '["x",' + "[" * 5000 + "]" * 5000 + "]",
            "42/logs," + '["x",' + '{"a":' * 3000 + "1" + "}" * 3000 + "]",
            "40/" + "n" * 5000,
            "42" + "9" * 5000 + '["x"]',
        ]
    ),
    texts,
    texts.map(lambda text: "4" + text),
    texts.map(lambda text: "42/logs,7" + text),
    payloads.map(lambda value: "42/logs,7" + json.dumps(value)),
    payloads.map(lambda value: "40/logs," + json.dumps(value)[:-1]),
    st.binary(max_size=50),
)


@few(150)
@given(joined=st.booleans(), messages=st.lists(junk, min_size=1, max_size=4))
def test_garbage_on_a_websocket_closes_that_connection_at_most(
    tenant: Tenant, healthy: Plain, joined: bool, messages: list[str | bytes]
) -> None:
    client = Plain(tenant.url)
    with stopping(client):
        if joined:
            assert client.join("/logs", {"token": tenant.token()}).kind == CONNECT
        try:
            for message in messages:
                client.send(message)
            # Among the garbage may be a good packet, also one that leaves /logs; what must not follow is silence.
            assert client.join("/flows", {"token": tenant.token()}).kind == CONNECT
        except (Closed, OSError, websocket.WebSocketException):
            pass
    assert healthy.call("/logs", "unsubscribe_logs")["ok"]


@few(100)
@given(
    body=st.one_of(
        st.lists(junk.filter(lambda one: isinstance(one, str)), max_size=20).map(lambda all: "\x1e".join(all).encode()),
        st.binary(max_size=200),
    ),
    joined=st.booleans(),
)
def test_garbage_in_a_polling_request_is_400_and_ends_the_session(tenant: Tenant, body: bytes, joined: bool) -> None:
    url = tenant.url + "/socket.io/?EIO=4&transport=polling"
    with requests.Session() as http:
        sid = json.loads(http.get(url, timeout=5).text[1:])["sid"]
        if joined:
            packet = "40/logs," + json.dumps({"token": tenant.token()})
            assert http.post(f"{url}&sid={sid}", packet.encode(), timeout=5).status_code == 200
            assert http.get(f"{url}&sid={sid}", timeout=5).text.startswith("40/logs,")
        answer = http.post(f"{url}&sid={sid}", body, timeout=5)
        assert answer.status_code in (200, 400), answer.text
        if answer.status_code == 400:
            assert http.post(f"{url}&sid={sid}", b"3", timeout=5).status_code == 400
        else:
            # Whatever it was is over by now, or a session that is as good as new.
            http.post(f"{url}&sid={sid}", b"1", timeout=5)


@few(80)
@given(noise=st.binary(min_size=1, max_size=400), fin=st.booleans())
def test_noise_instead_of_frames_closes_that_connection_at_most(tenant: Tenant, noise: bytes, fin: bool) -> None:
    client = Plain(tenant.url)
    with stopping(client):
        raw = client.socket.sock
        try:
            raw.sendall(noise)
            raw.shutdown(socket.SHUT_WR)
            raw.settimeout(5)
            while raw.recv(65536):
                pass
        except ConnectionError:
            pass


@few(60)
@given(noise=st.one_of(st.binary(min_size=1, max_size=300), texts.map(str.encode)), line=st.booleans())
def test_noise_instead_of_http_is_refused(tenant: Tenant, noise: bytes, line: bool) -> None:
    with socket.create_connection(("127.0.0.1", tenant.node.port), timeout=5) as raw:
        try:
            raw.sendall((b"GET /socket.io/?EIO=4 HTTP/1.1\r\n" if line else b"") + noise + b"\r\n\r\n")
            raw.shutdown(socket.SHUT_WR)
            answer = b""
            while chunk := raw.recv(65536):
                answer += chunk
        except ConnectionError:
            return
    assert b" 500 " not in answer.split(b"\r\n")[0] and b"Traceback" not in answer


def test_clients_that_leave_in_the_middle_of_connecting_leave_no_trace(tenant: Tenant, healthy: Plain) -> None:
    auth = json.dumps({"token": tenant.token()})
    for number in range(60):
        client = Plain(tenant.url)
        for namespace in ("/logs", "/flows"):
            client.send(f"40{namespace},{auth}")
            client.send(f'42{namespace},1["subscribe_logs",{{"history":1000}}]')
        if number % 3 == 0:
            client.send("41/logs,")
            client.send(f"40/logs,{auth}")
        if number % 2:
            client.socket.sock.shutdown(socket.SHUT_RDWR)
        client.close()
    assert healthy.call("/logs", "log_history")["ok"]


def test_a_polling_client_that_leaves_while_it_is_admitted_leaves_no_trace(
    tenant: Tenant, healthy: Plain, shared_redis: PrivateRedis
) -> None:
    url = tenant.url + "/socket.io/?EIO=4&transport=polling"
    with requests.Session() as http, shared_redis.client() as redis:
        for pause in (200, 300):
            sid = json.loads(http.get(url, timeout=5).text[1:])["sid"]
            with socket.create_connection(("127.0.0.1", tenant.node.port), timeout=5) as poll:
                poll.sendall(f"GET /socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                redis.execute_command("CLIENT", "PAUSE", pause, "ALL")
                connect = ("40/logs," + json.dumps({"token": tenant.token()})).encode()
                with ThreadPoolExecutor(1) as pool:
                    posted = pool.submit(requests.post, f"{url}&sid={sid}", connect, timeout=5)
                    time.sleep(pause / 2000)
                    poll.close()
                    posted.result()
            assert http.get(f"{url}&sid={sid}", timeout=5).status_code == 400
    assert healthy.call("/logs", "log_history")["ok"]


# HTTP


@few(160)
@given(
    door=st.sampled_from(
        [
            ("POST", "/logs"),
            ("POST", "/flows/f1/runs/r1/events"),
            ("POST", "/revocations"),
            ("POST", "/tickets"),
            ("PUT", "/workspaces/w2"),
            ("PATCH", "/workspaces/w2"),
        ]
    ),
    body=st.one_of(
        payloads.map(lambda value: json.dumps(value).encode()),
        st.lists(payloads, max_size=4).map(lambda many: b"\n".join(json.dumps(one).encode() for one in many)),
        st.binary(max_size=100),
        st.just(b"[" * 100_000),
        st.just(b'{"logLevel":"info","message":"x","metadata":' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}"),
        st.just(b'{"logLevel":"info","message":"\\ud83d"}'),
    ),
    kind=st.sampled_from(["application/json", "application/x-ndjson", "text/plain", ""]),
    key=st.one_of(st.none(), st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=300)),
    version=st.sampled_from([None, '"0"', '"1"', "*", 'W/"1"', '"99999999999999999999"', '"-1"', "1", '"1", "2"', ""]),
)
def test_any_body_is_accepted_or_refused_with_a_code(
    tenant: Tenant, door: tuple[str, str], body: bytes, kind: str, key: str | None, version: str | None
) -> None:
    scope = "logs:write flows:write workspaces:write admin"
    headers = {"Authorization": "Bearer " + tenant.token("writer", scope=scope)}
    if version is not None:
        headers["If-Match"] = version
    if kind:
        headers["Content-Type"] = kind
    if key is not None:
        headers["Idempotency-Key"] = key
    verb, path = door
    answer = requests.request(verb, tenant.url + "/api/v1" + path, data=body, headers=headers, timeout=10)
    check_http(answer)


@few(120)
@given(
    path=st.sampled_from(["/logs", "/flows/f1/runs/r1", "/flows/{}/runs/{}", "/workspaces/{}"]),
    verb=st.sampled_from(["GET", "DELETE", "PUT"]),
    query=st.dictionaries(st.one_of(fields, texts), near_texts.map(lambda text: text[:300]), max_size=4),
    segment=near_ids,
)
def test_any_query_is_answered_or_refused_with_a_code(
    tenant: Tenant, path: str, verb: str, query: dict[str, str], segment: str
) -> None:
    path = path.format(requests.compat.quote(segment, safe=""), "r1")
    headers = {
        "Authorization": "Bearer " + tenant.token("reader", scope="logs:read logs:clear flows:read workspaces:read")
    }
    answer = requests.request(verb, tenant.url + "/api/v1" + path, params=query, headers=headers, timeout=10)
    check_http(answer)


def check_http(answer: requests.Response) -> None:
    assert answer.status_code in (200, 201, 202, 400, 403, 404, 405, 409, 412, 413, 422), answer.text
    assert not [fault for fault in FAULTS if fault in answer.text]
    if answer.status_code >= 400 and answer.headers["Content-Type"] == "application/json":
        error = answer.json()["error"]
        assert {"code", "message", "retryable"} <= set(error)
        # A conflict carries the state.
        assert len(answer.content) < 3000 or error["code"] == "conflict"


def test_a_large_body_is_refused_before_it_is_read(tenant: Tenant) -> None:
    headers = {"Authorization": "Bearer " + tenant.token("writer", scope="logs:write")}
    answer = requests.post(tenant.url + "/api/v1/logs", b"x" * 5_000_000, headers=headers, timeout=10)
    assert answer.status_code == 413 and answer.json()["error"]["code"] == "too_large"


def test_a_message_over_the_limit_closes_that_connection(tenant: Tenant) -> None:
    client = tenant.plain("/logs")
    with pytest.raises((Closed, OSError)):
        client.send('42/logs,["log_history",{"flowId":"' + "x" * 1_000_001 + '"}]')
        until(lambda: client.settle("/logs") and False, 5)
