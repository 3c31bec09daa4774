"""python-socketio clients with default options: `python -m tests.transport_python_clients URL CLIENTS ACKS`."""

import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import socketio

from tests.watcher import InOrderClient


def run(url: str, acks: int, transports: list[str] | None) -> dict[str, int]:
    report = {"connectErrors": 0, "acked": 0, "returned": 0}
    back = threading.Event()
    client = InOrderClient(reconnection_delay=0.05, reconnection_delay_max=0.1)
    client.on("connect_error", lambda _: report.update(connectErrors=report["connectErrors"] + 1))
    try:
        client.connect(url, transports=transports, wait_timeout=10)
    except socketio.exceptions.ConnectionError:
        return report
    for number in range(acks):
        if client.call("echo", {"n": number, "b": b"\0\xff"}, timeout=10) == {"n": number, "b": b"\0\xff"}:
            report["acked"] += 1
    client.on("connect", back.set)
    client.emit("cut")
    if back.wait(10):
        time.sleep(0.05)
        report["returned"] = client.call("echo", 1, timeout=10)
    client.disconnect()
    return report


if __name__ == "__main__":
    url, clients, acks = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    transports = sys.argv[4].split(",") if len(sys.argv) > 4 else None
    with ThreadPoolExecutor(clients) as pool:
        reports = list(pool.map(lambda _: run(url, acks, transports), range(clients)))
    print(json.dumps({key: sum(report[key] for report in reports) for key in reports[0]}))
