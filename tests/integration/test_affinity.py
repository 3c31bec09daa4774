"""Several gunicorn workers on one port, with stock clients that poll first."""

import os
import signal
import time
from pathlib import Path

import pytest
import requests

from tests.transport_servers import javascript, python_clients, until, workers

pytestmark = [pytest.mark.independent, pytest.mark.thorough]
POLLING = "/socket.io/?EIO=4&transport=polling"


@pytest.mark.parametrize("count", [2, 4])
def test_stock_clients_with_default_options_connect_without_an_error(short_path: Path, count: int) -> None:
    with workers(count, short_path) as url:
        report = javascript("affinity", url, 40, 5, 30_000)
        assert report == {"connectErrors": 0, "disconnects": 0, "acked": 200, "echoed": 200, "upgraded": 40}
        assert python_clients(url, 10, 5) == {"connectErrors": 0, "acked": 50, "returned": 10}
        assert python_clients(url, 4, 5, "polling") == {"connectErrors": 0, "acked": 20, "returned": 4}


def test_stock_workers_lose_polling_clients(short_path: Path) -> None:
    with workers(4, short_path, stock=True) as url:
        assert javascript("affinity", url, 40, 5, 4_000)["connectErrors"] > 0


def test_a_killed_workers_session_is_unknown_within_a_second(short_path: Path) -> None:
    with workers(2, short_path) as url:
        opened = requests.get(url + POLLING, timeout=5)
        sid = opened.text[opened.text.index('"sid":"') + 7 :].split('"')[0]
        target = f"{url}{POLLING}&sid={sid}"
        assert requests.post(target, "40", timeout=5).text == "ok"
        owner = until(
            lambda: next(
                (node for node in [requests.get(url + "/node", timeout=5).json()] if sid.startswith(node["tag"])), None
            )
        )
        os.kill(owner["pid"], signal.SIGKILL)
        until(lambda: not Path(f"/proc/{owner['pid']}").exists() or is_zombie(owner["pid"]))
        started = time.monotonic()
        refused = requests.post(target, "40", timeout=5)
        assert time.monotonic() - started < 1
        assert (refused.status_code, refused.json()) == (400, {"code": 1, "message": "Session ID unknown"})
        assert not (short_path / f"{owner['tag']}.sock").exists()
        until(lambda: len(list(short_path.glob("*.sock"))) == 2, 20)


def is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_workers_remove_their_sockets_when_they_stop(short_path: Path) -> None:
    with workers(2, short_path):
        assert len(list(short_path.iterdir())) == 2
    assert list(short_path.iterdir()) == []
