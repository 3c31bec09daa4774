"""The door for other processes: it publishes what a node hears, raises when it can't, and imports no web server."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mintflow_realtime.emitter import Emitter
from mintflow_realtime.protocol.envelope import decode
from mintflow_realtime.protocol.errors import Unavailable
from mintflow_realtime.settings.settings import Settings
from tests.redis_fixture import PrivateRedis

ROOT = Path(__file__).parent.parent.parent


def test_it_publishes_in_every_namespace(private_redis: PrivateRedis) -> None:
    with Emitter(private_redis.url) as emit, private_redis.client() as client:
        heard = client.pubsub()
        heard.psubscribe("*")
        assert heard.get_message(timeout=5)["type"] == "psubscribe"
        emit.flows.progress("acme", "f", "r", 40)
        emit.logs.append("acme", message="m")
        emit.publish("acme", "/board", "moved", {"x": 1})
        found = []
        while len(found) < 3:
            message = heard.get_message(timeout=5)
            assert message
            found.append((message["channel"].decode().partition("{acme}:channel:")[2], decode(message["data"])))
        heard.close()
    assert [name for name, _ in found] == ["/flows", "/logs", "/board"]
    assert all(announcement.offset and announcement.offset.number == 1 for _, announcement in found)


def test_it_uses_the_keys_of_the_settings(private_redis: PrivateRedis) -> None:
    settings = Settings.with_redis(private_redis.url)
    with Emitter(settings=settings) as emit:
        assert emit.publisher.channel("acme", "/n").startswith(settings.redis_prefix + ":{acme}:")
        assert emit.logs.append("acme", message="m").offset.endswith("-1")
    with Emitter(private_redis.url) as emit:
        assert emit.logs.append("acme", message="m").offset.endswith("-2")


def test_without_redis_it_raises_and_within_two_seconds_where_redis_hangs(private_redis: PrivateRedis) -> None:
    """Row 31 and row 34."""
    with Emitter(private_redis.url) as emit:
        emit.logs.append("acme", message="before")
        private_redis.pause()
        # Whoever asked Redis again would wait for a second.
        for most in (2.0, 0.9):
            began = time.monotonic()
            with pytest.raises(Unavailable):
                emit.flows.started("acme", "f", "r")
            assert time.monotonic() - began < most
        private_redis.resume()
        private_redis.kill()
        time.sleep(0.5)
        with pytest.raises(Unavailable):
            emit.publish("acme", "/board", "e", 1)


def test_closing_leaves_no_connection(private_redis: PrivateRedis, no_leaks: None) -> None:
    with Emitter(private_redis.url) as emit:
        emit.logs.append("acme", message="m")


def test_it_imports_neither_a_web_server_nor_an_event_loop() -> None:
    forbidden = ("flask", "gevent", "socketio", "engineio", "werkzeug", "greenlet")
    script = f"import sys, mintflow_realtime.emitter; print([name for name in {forbidden!r} if name in sys.modules])"
    # Measuring coverage imports gevent by itself.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
