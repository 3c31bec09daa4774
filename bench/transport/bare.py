"""The kernel's own share, and gevent's: a loop of `socket.send` to 500 connections, and an echo loop."""

import socket
import threading
import time

from bench.harness.loader import Loader
from bench.harness.servers import Echo
from bench.servers.bare import event_frame, shake_hands

CLIENTS = 500


def sends(loader: Loader) -> dict[str, float]:
    """CPU per `socket.send` in this process, in µs: 20 events a second, back to back, and in bursts."""
    figures = {}
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        sockets: list[socket.socket] = []

        def accept() -> None:
            for _ in range(CLIENTS):
                sockets.append(listener.accept()[0])
                shake_hands(sockets[-1])

        accepting = threading.Thread(target=accept)
        accepting.start()
        loader.open(listener.getsockname()[1], CLIENTS, mode="bare")
        accepting.join()
        for name, size, times, burst, pause in (
            ("delivery 500 x 200 B, µs", 200, 40, 1, 0.05),
            ("delivery 500 x 2000 B, µs", 2000, 40, 1, 0.05),
            ("delivery 500 x 200 B, back to back, µs", 200, 100, 1, 0.0),
            ("delivery 500 x 200 B, bursts of 20, µs", 200, 10, 20, 0.0),
        ):
            frame, spent = event_frame(size), 0.0
            for _ in range(times):
                loader.do("expect", events=burst * CLIENTS)
                before = time.thread_time()
                for _ in range(burst):
                    for one in sockets:
                        one.send(frame)
                spent += time.thread_time() - before
                loader.do("expected")
                time.sleep(pause)
            figures[name] = spent / (times * burst * CLIENTS) * 1e6
        loader.do("drop")
        for one in sockets:
            one.close()
    return figures


def echoes(loader: Loader) -> dict[str, float]:
    """CPU per round trip of a gevent echo loop with 100 connections, in µs."""
    server = Echo()
    try:
        loader.open(server.port, 100, mode="bare")
        loader.do("echo", times=20)
        before = server.cpu_seconds()
        done = loader.do("echo", times=100)
        spent = server.cpu_seconds() - before
        loader.do("drop")
        return {"ack, back to back, µs": spent / done["acks"] * 1e6}
    finally:
        server.stop()
