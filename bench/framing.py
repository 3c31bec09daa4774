"""What reading and writing WebSocket frames costs in CPU: ours beside wsproto and websockets, without a socket.

`python -m bench.framing`. A library within 1.3 times of ours would be used instead of it.
"""

import os
import statistics
import time
from collections.abc import Callable
from functools import partial

from websockets.frames import Frame
from websockets.protocol import Protocol, Side
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, TextMessage

from mintflow_realtime.transport.websocket.frames import BINARY, TEXT, FrameReader, frame, unmasked

ROUNDS = 9
LIMIT = 2_000_000
SIZES = (20, 200, 2_000, 1_000_000)


def client_frame(payload: bytes) -> bytes:
    """Return a masked text frame."""
    mask = os.urandom(4)
    size = len(payload)
    length = (
        bytes([0x80 | size])
        if size < 126
        else b"\xfe" + size.to_bytes(2, "big")
        if size < 65_536
        else b"\xff" + size.to_bytes(8, "big")
    )
    return b"\x81" + length + mask + unmasked(payload, mask)


def pieces(data: bytes) -> list[bytes]:
    """Return `data` as a socket gives it."""
    return [data[start : start + 65_536] for start in range(0, len(data), 65_536)]


class Ours:
    def __init__(self) -> None:
        self._reader = FrameReader(LIMIT)

    def read(self, data: list[bytes]) -> str:
        for piece in data:
            self._reader.feed(piece)
            found = self._reader.next()
        assert found is not None and found.opcode == TEXT and isinstance(found.payload, str)
        return found.payload

    def write(self, payload: bytes) -> bytes:
        return frame(BINARY, payload)


class Wsproto:
    def __init__(self) -> None:
        self._connection = Connection(ConnectionType.SERVER)

    def read(self, data: list[bytes]) -> str:
        parts: list[str] = []
        for piece in data:
            self._connection.receive_data(piece)
            parts += [event.data for event in self._connection.events() if isinstance(event, TextMessage)]
        return "".join(parts)

    def write(self, payload: bytes) -> bytes:
        return self._connection.send(BytesMessage(data=payload))


class Websockets:
    def __init__(self) -> None:
        self._protocol = Protocol(Side.SERVER, max_size=LIMIT)

    def read(self, data: list[bytes]) -> str:
        for piece in data:
            self._protocol.receive_data(piece)
        (found,) = self._protocol.events_received()
        assert isinstance(found, Frame)
        return bytes(found.data).decode()

    def write(self, payload: bytes) -> bytes:
        self._protocol.send_binary(payload)
        return b"".join(self._protocol.data_to_send())


def cost(act: Callable[[], object], times: int) -> float:
    """Return µs of CPU that one call takes."""
    began = time.process_time()
    for _ in range(times):
        act()
    return (time.process_time() - began) / times * 1e6


def main() -> None:
    kinds = (Ours, Wsproto, Websockets)
    print(f"{'µs a message':24}" + "".join(f"{kind.__name__.lower():>14}" for kind in kinds) + f"{'best / ours':>14}")
    for size in SIZES:
        payload = b"x" * size
        data, times = pieces(client_frame(payload)), max(3, min(5_000, 5_000_000 // size))
        for name in ("read", "write"):
            rounds: list[list[float]] = []
            for _ in range(ROUNDS):
                sides = [kind() for kind in kinds]
                assert name == "write" or all(side.read(data) == payload.decode() for side in sides)
                argument = data if name == "read" else payload
                rounds.append([cost(partial(getattr(side, name), argument), times) for side in sides])
            ratio = statistics.median(min(others) / ours for ours, *others in rounds)
            figures = [statistics.median(column) for column in zip(*rounds, strict=True)]
            print(f"{name} {size:>9,} B{'':8}" + "".join(f"{one:14.2f}" for one in figures) + f"{ratio:14.2f}")


if __name__ == "__main__":
    main()
