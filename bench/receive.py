"""What one event costs the node that receives it, without the socket write: CPU by the number of its clients there.

    python -m bench.receive [redis URL]

`heard` is from the message that was read to the last client's outbox; `all` is with the node's one subscribed
connection to a real Redis, fed by another process at a fixed rate: wake-up, reading, parsing, order, delivery.
"""

import subprocess
import sys
import time
from functools import partial
from typing import Any

import gevent
import redis.connection
from gevent import socket as cooperative_socket

from mintflow_realtime.fanout.deliver.manager import Manager
from mintflow_realtime.fanout.publish.publisher import Caps, Publisher, plain_event
from mintflow_realtime.fanout.session import Session
from mintflow_realtime.fanout.subscribe.channels import Channels
from mintflow_realtime.fanout.subscribe.subscriber import RedisSubscriber
from mintflow_realtime.protocol import wire_json
from mintflow_realtime.protocol.scripts import Keys
from mintflow_realtime.stores.redis.client import RedisClient
from mintflow_realtime.stores.redis.connect import connect
from mintflow_realtime.transport.socket_io.server import SocketServer
from tests.redis_fixture import PrivateRedis

ROUNDS = 5
EVENTS = 4000
RATE = 1000
PAYLOAD = {"tenantId": "acme", "flowId": "f", "runId": "r", "status": "running", "pad": "x" * 100}


class Counting(SocketServer):
    """Encodes as the real one; a post is counted and goes nowhere."""

    posted = 0

    def post(self, eio_sid: str, message: Any) -> None:
        self.posted += 1


class Receiver:
    """A node with `clients` of one tenant, of whom `recovering` recover."""

    def __init__(self, url: str, prefix: str, clients: int, recovering: int = 0) -> None:
        self.redis, self.subscribed = RedisClient(connect(url)), connect(url)
        keys = Keys(prefix)
        self.manager = Manager(self.redis, ["/flows"])
        self.server = Counting(client_manager=self.manager, json=wire_json)
        self.manager.set_server(self.server)
        self.publisher = Publisher(self.redis, keys, Caps())
        self.channels = Channels(
            self.redis,
            keys,
            self.publisher,
            partial(RedisSubscriber, self.subscribed),
            node="bench",
            outside_channel=keys.shared("outside"),
            outside=lambda message: None,
            deliver=self.manager.deliver,
            lost=self.manager.tell_lost,
            on_control=lambda tenant: None,
        )
        self.manager.position = self.channels.position
        self.channels.start()
        self.channels.open("acme", "/flows")
        for number in range(clients):
            sid = self.manager.pre_connect(f"e{number}", "/flows")
            assert sid is not None
            self.manager.connect(sid, "/flows")
            if number < recovering:
                self.manager.follow(Session("acme", "/flows", sid, "", ""))
            for room in ("acme:", "acme:run:r"):
                self.manager.enter(sid, "/flows", room)

    def close(self) -> None:
        self.channels.stop()
        self.redis.close()
        self.subscribed.close()


def event(number: int) -> Any:
    rooms = ("acme:flow:f", "acme:run:r", "acme:flow-run:f/r")
    return plain_event(rooms, "flow_progress", {**PAYLOAD, "progress": number % 100, "seq": number})


def heard(receiver: Receiver) -> float:
    """Return the microseconds of CPU for each message that was read."""
    name = receiver.publisher.channel("acme", "/flows")
    order = receiver.channels._channels[name].order
    first = (order.position.number if order.position else 0) + 1
    epoch = order.position.epoch if order.position else "a"
    messages = []
    for number in range(first, first + EVENTS):
        one = event(number)
        messages.append(f"{epoch}-{number}\n{wire_json.dumps(one.header)}\n{''.join(one.pieces)}".encode())
    began = time.process_time()
    for message in messages:
        receiver.channels._on_message(name, message)
    return (time.process_time() - began) / EVENTS * 1e6


def everything(receiver: Receiver, url: str, prefix: str) -> float:
    """Return the microseconds of CPU of this process for each event that another one publishes."""
    name = receiver.publisher.channel("acme", "/flows")
    receiver.channels._channels[name].order.position = receiver.publisher.head("acme", "/flows")[0]
    before = receiver.server.posted
    each = len(receiver.manager.recipients("/flows", "acme:run:r"))
    command = [sys.executable, "-m", "bench.receive", "publish", url, prefix]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as publisher:
        assert publisher.stdout is not None
        # Blocks for as long as that process needs to begin; nothing happens here meanwhile.
        publisher.stdout.readline()
        began, idle = time.process_time(), time.monotonic()
        while receiver.server.posted - before < EVENTS * each and time.monotonic() - idle < 30:
            gevent.sleep(0.05)
        used = time.process_time() - began
    assert receiver.server.posted - before >= EVENTS * each, "some were lost"
    return used / EVENTS * 1e6


def publish(url: str, prefix: str) -> None:
    """Publish at RATE a second; on the other side of the measurement."""
    client = RedisClient(connect(url))
    publisher = Publisher(client, Keys(prefix), Caps())
    print("ready", flush=True)
    began = time.monotonic()
    for number in range(EVENTS):
        publisher.publish("acme", "/flows", [event(number)])
        time.sleep(max(0.0, began + number / RATE - time.monotonic()))
    client.close()


def main() -> None:
    if sys.argv[1:2] == ["publish"]:
        publish(*sys.argv[2:4])
        return
    # As in a monkey-patched process.
    setattr(redis.connection, "socket", cooperative_socket)  # noqa: B010
    server = None if len(sys.argv) > 1 else PrivateRedis()
    url = server.url if server is not None else sys.argv[1]
    try:
        print(f"{'clients':>8} {'recovering':>10} {'heard':>9} {'all':>9}   µs an event, medians of {ROUNDS}")
        for clients, recovering in ((1, 0), (20, 0), (500, 0), (1, 1), (20, 20), (500, 500)):
            prefix = f"bench-{clients}-{recovering}"
            receiver = Receiver(url, prefix, clients, recovering)
            one = sorted(heard(receiver) for _ in range(ROUNDS))[ROUNDS // 2]
            every = sorted(everything(receiver, url, prefix) for _ in range(3))[1]
            receiver.close()
            print(f"{clients:>8} {recovering:>10} {one:>9.1f} {every:>9.1f}", flush=True)
    finally:
        if server is not None:
            server.stop()


if __name__ == "__main__":
    main()
