"""The tests' own ports: no two processes have one at once, and servers may listen on them."""

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests import ports
from tests.servers import ROOT

COUNT = 150
TAKER = f"""
import sys
from tests.ports import free_member_port, free_port
print(*[free_port() for _ in range({COUNT})], *[free_member_port() for _ in range(20)], flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def taker() -> Iterator["subprocess.Popen[str]"]:
    """Start a process that takes ports until its standard input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", TAKER], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def test_ports_of_several_processes_never_meet() -> None:
    with contextlib.ExitStack() as stack:
        takers = [stack.enter_context(taker()) for _ in range(4)]
        taken: list[int] = []
        for process in takers:
            assert process.stdout is not None
            given = [int(port) for port in process.stdout.readline().split()]
            assert len(given) == COUNT + 20
            taken += given + [port + ports.BUS for port in given[COUNT:]]
        taken += [ports.free_port() for _ in range(50)]
        assert len(taken) == len(set(taken))


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::"])
def test_a_server_may_listen_and_be_started_again(host: str) -> None:
    port = ports.free_port()
    with socket.socket() as client, pytest.raises(ConnectionRefusedError):
        client.connect(("127.0.0.1", port))
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for _ in range(2):
        with socket.create_server((host, port), family=family, dualstack_ipv6=":" in host) as server:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
                server.accept()[0].close()
            # Nobody else's may listen, nor take the port.
            with socket.socket() as other, pytest.raises(OSError):
                other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                other.bind(("127.0.0.1", port))
                other.listen()
        with socket.socket() as other, pytest.raises(OSError):
            other.bind(("127.0.0.1", port))


def test_what_is_held_is_bounded() -> None:
    for _ in range(2 * ports.MAX_HELD):
        ports.free_port()
    assert len(ports.held_descriptors()) == ports.MAX_HELD
