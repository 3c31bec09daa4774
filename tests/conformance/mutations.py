"""Seeded mutations of the corpora: whatever a client sends, the server sends well-formed frames, and ends."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from tests.conformance import engine_io, rfc6455, socket_io
from tests.conformance.outcomes import Row
from tests.conformance.runner import Server
from tests.conformance.wire import BINARY, TEXT, Frame, Polling, Received, WebSocket, payload, unpacked

MOST = 2000
"""Bytes of a row that is worth mutating: in longer ones nearly all is content."""


@dataclass(frozen=True)
class Mutation:
    """`kind` bytes: the frames of `row` with other bytes; packets: well-formed frames of other packets."""

    kind: str
    seed: int
    row: Row
    content: tuple[bytes, ...]

    def __str__(self) -> str:
        return f"{self.kind} {self.seed}: {self.row}"


def mutations(seed: int, count: int) -> Iterator[Mutation]:
    """Return `count` mutations of each kind; the same for the same seed."""
    rows = [row for row in [*rfc6455.rows(), *engine_io.rows(), *socket_io.rows()] if 0 < len(row.bytes) <= MOST]
    packets = [one for one in socket_io.packets() if 0 < len(payload(*one.packets)) <= MOST]
    for number in range(seed, seed + count):
        chance = random.Random(number)
        row, other = chance.choice(rows), chance.choice(rows)
        yield Mutation("bytes", number, row, (mutated(row.bytes, other.bytes, chance),))
        one = chance.choice(packets)
        changed = [_changed(packet, chance) for packet in one.packets]
        yield Mutation("packets", number, one.row(), tuple(changed))
        yield Mutation("polled packets", number, one.row(), (mutated(payload(*one.packets), row.bytes, chance),))


def _changed(packet: str | bytes, chance: random.Random) -> bytes:
    content = packet.encode() if isinstance(packet, str) else packet
    is_text = isinstance(packet, str) ^ (chance.random() < 0.05)
    return bytes(Frame(TEXT if is_text else BINARY, mutated(content, b'{"_placeholder":true,"num":0}', chance)))


def mutated(content: bytes, other: bytes, chance: random.Random) -> bytes:
    """Return `content` after one to four changes: bits, bytes, pieces gone, doubled, moved, or from `other`."""
    found = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(len(found) + 1)
        end = min(len(found), start + chance.choice([1, 1, 2, 4, 8, 50]))
        piece = bytes(found[start:end])
        change = chance.randrange(7)
        if change == 0 and piece:
            found[start] ^= 1 << chance.randrange(8)
        elif change == 1 and piece:
            found[start] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256), *b'"[]{},:/-0123456789'])
        elif change == 2:
            del found[start:end]
        elif change == 3:
            found[start:start] = piece
        elif change == 4:
            found[start:start] = bytes(chance.randrange(256) for _ in range(chance.randint(1, 9)))
        elif change == 5:
            del found[start:end]
            place = chance.randrange(len(found) + 1)
            found[place:place] = piece
        else:
            begin = chance.randrange(len(other) + 1)
            found[start:end] = other[begin : begin + 50]
    return bytes(found)


def run(server: Server, mutation: Mutation) -> None:
    """Send a mutation; then end our side, and read to the end."""
    try:
        if mutation.kind == "polled packets":
            _poll(server, mutation)
        else:
            _send(server, mutation)
    except (AssertionError, EOFError) as error:
        raise AssertionError(f"{mutation}\nsent: {mutation.content!r:.500}\n{error}") from None
    server.serves()


def _send(server: Server, mutation: Mutation) -> None:
    with WebSocket(server.port) as client:
        client.joined(*mutation.row.namespaces)
        for part in mutation.content:
            client.send(part)
        server.serves()
        client.finish()
        while (came := client.next()).kind not in ("close", "end"):
            pass
        if came.kind == "close":
            assert client.ended()


def _poll(server: Server, mutation: Mutation) -> None:
    with Polling(server.port) as client:
        client.joined(*mutation.row.namespaces)
        posted = client.posts.ask("POST", client.target, mutation.content[0])
        assert posted.status in (200, 400), posted
        client.gets.request("GET", client.target)
        server.serves()
        assert client.post("1").status in (200, 400)
        polled = client.gets.response()
        assert polled.status in (200, 400), polled
        if polled.status == 200:
            unpacked(polled)
        assert client.poll() == [Received("end")]
