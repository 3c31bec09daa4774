"""Settings as a deployer meets them: a slip stops the start, what Kubernetes sets doesn't, a channel of one's own."""

import subprocess
from collections.abc import Iterator

import pytest
import socketio

from tests.servers import Node, RedisServer, stopping, token, until
from tests.watcher import Watcher


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    server = RedisServer()
    with stopping(server):
        yield server


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("SOCKET_AUTH_REQUIERD", "true", "SOCKET_AUTH_REQUIERD is no setting; the nearest is SOCKET_AUTH_REQUIRED."),
        ("MINTFLOW_PORT", "web", "MINTFLOW_PORT must be a whole number from 0 to 65535, not 'web'."),
    ],
)
def test_a_bad_setting_stops_the_start_with_one_sentence(server: RedisServer, name: str, value: str, says: str) -> None:
    node = Node(REDIS_URL=server.url, **{name: value})
    with stopping(node):
        try:
            assert node.process.wait(30) != 0
        except subprocess.TimeoutExpired:
            pytest.fail("it serves")
        text = node.text()
        assert f"mintflow: {says}" in text and "Traceback" not in text


def test_what_kubernetes_sets_is_ignored_and_said() -> None:
    node = Node(REDIS_PORT="tcp://10.0.0.1:6379", REDIS_SERVICE_HOST="10.0.0.1", MINTFLOW_PORT="tcp://10.0.0.2:3000")
    with stopping(node):
        node.wait_ready()
        assert "REDIS_PORT is what Kubernetes sets for a service called redis" in node.text()


def test_two_installations_on_one_redis_have_channels_of_their_own(server: RedisServer) -> None:
    application = "tests.integration.apps.board:application"
    ours, theirs = (
        Node(application=application, REDIS_URL=server.url, REDIS_PREFIX=name, SOCKET_CHANNEL=name)
        for name in ("ours", "theirs")
    )
    with stopping(ours, theirs):
        watchers = [Watcher(node.wait_ready().url, "/board", auth={"token": token()}) for node in (ours, theirs)]
        with stopping(*watchers):
            for channel in ("theirs", "ours"):
                manager = socketio.RedisManager(server.url, channel=channel, write_only=True)
                manager.emit("outside", channel, namespace="/board")
                manager.redis.close()
            for watcher, channel in zip(watchers, ("ours", "theirs"), strict=True):
                assert until(lambda: watcher.wait("outside"), 10) == [channel]  # noqa: B023
