"""Stock clients against one process, on each transport; and what stops gunicorn at the start."""

import socket

import pytest

from tests.transport_servers import gunicorn, javascript, python_clients, single


def test_stock_clients_of_one_process_echo_and_come_back_after_a_cut() -> None:
    with single() as url:
        for transports, reason in (("polling", "transport error"), ("websocket", "transport close")):
            assert javascript("transport", url, transports) == {
                "transports": transports,
                "echoes": [True] * 8,
                "reason": reason,
                "returned": True,
                "errors": [],
            }
            assert python_clients(url, 2, 3, transports) == {"connectErrors": 0, "acked": 6, "returned": 2}
        assert javascript("affinity", url, 20, 5, 20_000) == {
            "connectErrors": 0,
            "disconnects": 0,
            "acked": 100,
            "echoed": 100,
            "upgraded": 20,
        }


@pytest.mark.parametrize(
    ("arguments", "application", "sentence"),
    [
        (["--certfile", "/dev/null", "--keyfile", "/dev/null"], "application", "TLS ends at nginx"),
        ([], "bare", "attribute `transport`"),
    ],
)
def test_what_cannot_work_stops_gunicorn_with_a_sentence(arguments: list[str], application: str, sentence: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with gunicorn(
            listener,
            "--worker-class",
            "mintflow_realtime.transport.worker.gunicorn_worker.Worker",
            *arguments,
            application=f"tests.transport_app:{application}",
        ) as process:
            try:
                written = process.communicate(timeout=20)[1]
            finally:
                process.kill()
    assert sentence in written
    assert process.returncode == 3
