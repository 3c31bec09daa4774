"""The door for other processes, from processes of their own; and the server as one process of its own."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import requests

from mintflow_realtime.emitter import Emitter
from mintflow_realtime.protocol.errors import Conflict, InvalidPayload, Unavailable
from mintflow_realtime.stores.embedded import embedded
from tests.ports import free_port
from tests.servers import PYTHON_PATH, ROOT, SECRET, Node, RedisServer, stopping, token, until
from tests.watcher import Watcher

# The promise is 2 s; the rest is for a machine that is busy with other tests.
PROMISED = 2.0
SLACK = 0.3


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    server = RedisServer()
    with stopping(server):
        yield server


def run_python(text: str, seconds: float = 20.0, **env: str) -> Any:
    """Run a script in a new interpreter with nothing but `env`; return the JSON that it printed."""
    done = subprocess.run(
        [sys.executable, "-c", text],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": PYTHON_PATH, **env},
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_script_publishes_and_imports_nothing_of_a_server(server: RedisServer) -> None:
    heavy = run_python(
        """
import json, sys
from mintflow_realtime.emitter import Emitter
with Emitter(sys.argv[1] if len(sys.argv) > 1 else None) as emit:
    published = emit.flows.progress("acme", "flow-1", "run-1", 40)
    assert published.offset and published.payload["progress"] == 40
    emit.logs.append("acme", flow_id="flow-1", message="hello")
    emit.publish("acme", "/board", "card_added", {"id": 1}, room="c1")
families = ("flask", "werkzeug", "gevent", "greenlet", "socketio", "engineio", "geventwebsocket", "gunicorn")
print(json.dumps(sorted(name for name in sys.modules if name.partition(".")[0] in families)))
""",
        REDIS_URL=server.url,
    )
    assert heavy == []


def test_without_a_url_it_takes_the_settings_else_the_embedded_server() -> None:
    node = Node()
    watcher = None
    with stopping(node):
        watcher = Watcher(node.wait_ready().url, "/flows", auth={"token": token()})
        with stopping(watcher):
            offset = run_python(
                "import json; from mintflow_realtime.emitter import Emitter\n"
                "with Emitter() as emit: print(json.dumps(emit.flows.started('acme', 'f', 'r').offset))",
                DATA_DIR=node.env["DATA_DIR"],
            )
            assert offset.endswith("-1")
            assert watcher.wait("flow_started")[0]["runId"] == "r"


METHODS: list[tuple[str, Callable[[Any], Callable[..., Any]], tuple[Any, ...], dict[str, Any]]] = [
    ("flow_started", lambda e: e.flows.started, ("f", "r"), {"data": {"trigger": "cron"}}),
    ("flow_progress", lambda e: e.flows.progress, ("f", "r", 40), {}),
    ("node_started", lambda e: e.flows.node_started, ("f", "r", "n1"), {}),
    ("node_completed", lambda e: e.flows.node_completed, ("f", "r", "n1"), {"data": {"rows": 3}}),
    ("node_failed", lambda e: e.flows.node_failed, ("f", "r", "n2", "broken"), {}),
    ("flow_failed", lambda e: e.flows.failed, ("f", "r", {"reason": "broken"}), {}),
    ("flow_completed", lambda e: e.flows.completed, ("f", "r2"), {}),
    ("new_log", lambda e: e.logs.append, (), {"flow_id": "f", "message": "hello", "level": "info"}),
    ("card_added", lambda e: e.publish, ("/board", "card_added", {"id": 1}), {}),
]


@pytest.mark.parametrize(("event", "method", "args", "more"), METHODS, ids=[row[0] for row in METHODS])
def test_every_method_returns_what_it_published_and_takes_an_idempotency_key(
    server: RedisServer, event: str, method: Callable[[Any], Callable[..., Any]], args: Any, more: dict[str, Any]
) -> None:
    tenant = f"tenant-{event}"
    with Emitter(server.url) as emit:
        call = method(emit)
        first = call(tenant, *args, **more, idempotency_key="k1")
        assert json.loads(first.texts[-1])[0] == event
        assert not first.repeated
        again = call(tenant, *args, **more, idempotency_key="k1")
        assert again.offset == first.offset and again.repeated
        without = call(tenant, *args, **more)
        epoch, _, number = first.offset.rpartition("-")
        assert without.offset == f"{epoch}-{int(number) + 1}"
        changed = {**more, "data": {"other": 1}} if "flow" in event or "node" in event else more
        if changed is not more:
            with pytest.raises(Conflict):
                call(tenant, *args, **changed, idempotency_key="k1")


WRONG: dict[str, Callable[[Any], Any]] = {
    "$.tenant": lambda e: e.flows.started("a b", "f", "r"),
    "$.flowId": lambda e: e.flows.started("acme", "f\n", "r"),
    "$.runId": lambda e: e.flows.started("acme", "f", ""),
    "$.nodeId": lambda e: e.flows.node_started("acme", "f", "r", "n\n"),
    "$.progress": lambda e: e.flows.progress("acme", "f", "r", "40"),
    "$.data": lambda e: e.flows.started("acme", "f", "r", data={"x": object()}),
    "$.data, a list": lambda e: e.flows.started("acme", "f", "r", data=[1]),
    "$.message": lambda e: e.logs.append("acme", message=7),
    "$.logLevel": lambda e: e.logs.append("acme", message="x", level=[]),
    "$.namespace": lambda e: e.publish("acme", "/flows", "x", 1),
    "$.namespace, no slash": lambda e: e.publish("acme", "board", "x", 1),
    "$.namespace, no text": lambda e: e.publish("acme", None, "x", 1),
    "$.event": lambda e: e.publish("acme", "/board", "connect", 1),
    "$.data, no JSON": lambda e: e.publish("acme", "/board", "x", object()),
    "$.room": lambda e: e.publish("acme", "/board", "x", 1, room="a\n"),
    "$.tenant, no text": lambda e: e.publish(None, "/board", "x", 1),
    "$.idempotencyKey": lambda e: e.publish("acme", "/board", "x", 1, idempotency_key="k" * 256),
    "$.idempotencyKey, no text": lambda e: e.publish("acme", "/board", "x", 1, idempotency_key=7),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_with_an_argument_is_said_with_its_path(server: RedisServer, what: str) -> None:
    with Emitter(server.url) as emit:
        with pytest.raises(InvalidPayload) as raised:
            WRONG[what](emit)
    assert raised.value.details["path"] == what.partition(",")[0]


def seconds_until_unavailable(call: Callable[[], Any]) -> float:
    began = time.monotonic()
    with pytest.raises(Unavailable):
        call()
    return time.monotonic() - began


def test_redis_down_and_redis_hung_are_said_within_two_seconds() -> None:
    redis_server = RedisServer()
    with stopping(redis_server):
        warm, cold = Emitter(redis_server.url), Emitter(redis_server.url)
        with warm, cold:
            first = warm.flows.started("acme", "f", "r", idempotency_key="k0")
            redis_server.send(signal.SIGSTOP)
            for emit in (warm, cold):
                assert seconds_until_unavailable(lambda: emit.flows.progress("acme", "f", "r", 1)) < PROMISED + SLACK  # noqa: B023
            longest: list[float] = []

            def append() -> None:
                with Emitter(redis_server.url) as emit:
                    longest.append(seconds_until_unavailable(lambda: emit.logs.append("acme", message="x")))

            threads = [threading.Thread(target=append) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(10)
            assert len(longest) == 8 and max(longest) < PROMISED + SLACK
            redis_server.send(signal.SIGCONT)
            until(lambda: answers(warm), 3)
            # Retries are off: what was sent to the hung server happened once at most.
            redis_server.stop(signal.SIGKILL)
            for emit in (warm, cold):
                assert seconds_until_unavailable(lambda: emit.flows.progress("acme", "f", "r", 1)) < PROMISED + SLACK  # noqa: B023
            redis_server.start()
            until(lambda: answers(cold), 3)
            assert warm.flows.started("acme", "f", "r", idempotency_key="k0").offset == first.offset


def answers(emit: Emitter) -> bool:
    try:
        return bool(emit.flows.progress("probe", "f", "r", 1))
    except Unavailable:
        return False


def test_a_publish_to_a_hung_redis_happens_once_or_never() -> None:
    """redis-py's own retries ran it twice."""
    redis_server = RedisServer()
    with stopping(redis_server), Emitter(redis_server.url) as emit:
        emit.publish("acme", "/board", "x", 0)
        redis_server.send(signal.SIGSTOP)
        with pytest.raises(Unavailable):
            emit.publish("acme", "/board", "x", 1, idempotency_key="k1")
        redis_server.send(signal.SIGCONT)
        until(lambda: answers(emit), 3)
        repeated = emit.publish("acme", "/board", "x", 1, idempotency_key="k1")
        assert int(repeated.offset.rpartition("-")[2]) == 2


def test_importing_the_server_and_making_an_emitter_connect_to_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        said = run_python(
            "import json, server; from mintflow_realtime import Emitter; Emitter(); app = server.create_app(); "
            "print(json.dumps(callable(server.application)))",
            REDIS_URL=url,
        )
        assert said is True
        assert select.select([listener], [], [], 0.2)[0] == []


@pytest.fixture
def single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple["subprocess.Popen[bytes]", int, Path]]:
    """`python server.py` with an embedded Redis."""
    # Not pytest's tmp_path: a UNIX socket's path has at most 107 bytes.
    import shutil
    import tempfile

    directory = Path(tempfile.mkdtemp(prefix="mf-"))
    port = free_port()
    env = {
        "PATH": os.environ["PATH"],
        "PORT": str(port),
        "DATA_DIR": str(directory / "data"),
        "JWT_SECRET": SECRET,
        **{name: value for name, value in os.environ.items() if name.startswith("COVERAGE")},
    }
    with open(directory / "out", "ab") as out:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "server.py")], env=env, stdout=out, stderr=out, start_new_session=True
        )
    try:
        yield process, port, directory
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(5)
        until(lambda: not embedded.is_locked(directory / "data" / embedded.LOCK), 15)
        shutil.rmtree(directory)


def test_server_py_serves_in_one_process_and_ctrl_c_ends_it_and_its_redis(
    single: tuple["subprocess.Popen[bytes]", int, Path],
) -> None:
    process, port, directory = single
    url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        assert process.poll() is None, (directory / "out").read_text()
        try:
            return requests.get(url + "/readyz", timeout=3).status_code == 200
        except requests.RequestException:
            return False

    until(ready, 20)
    path = directory / "data" / embedded.SOCKET
    with redis.Redis(unix_socket_path=str(path)) as client:
        redis_pid = client.info("server")["process_id"]
    watcher, poller = (
        Watcher(url, "/flows", auth={"token": token()}, transports=[transport])
        for transport in ("websocket", "polling")
    )
    with stopping(watcher, poller):
        with Emitter(f"unix://{path}") as emit:
            emit.flows.started("acme", "f", "r")
        assert watcher.wait("flow_started")[0]["seq"] == poller.wait("flow_started")[0]["seq"] == 1
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        until(lambda: not Path(f"/proc/{redis_pid}").exists(), 15, "the embedded Redis is gone")
        text = (directory / "out").read_text()
        assert "Traceback" not in text, text
