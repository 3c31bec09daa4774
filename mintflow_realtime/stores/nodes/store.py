"""The nodes of an installation, each with a lease in Redis, and what one asks another.

A question is published on a node's own channel; its answer is put into a list that ends by itself, so that whoever
reaches Redis can ask: nodes, other processes of the application, the command line.
"""

from dataclasses import dataclass

from mintflow_realtime.protocol.scripts import Keys, Runner, Script
from mintflow_realtime.stores.nodes.roster import MAX_PIECES, PIECE_BYTES

# A node writes of itself every other second; what Redis or a busy machine may take is left out of account.
LEASE_SECONDS = 10.0
# An ended node is remembered for as long as anybody may ask what became of its clients.
KNOWN_SECONDS = 3600.0
MAX_NODES = 1000
# Answers that nobody fetches.
ANSWER_SECONDS = 5.0

ASK = "ask"
_THERE = "there?"

_register = Script.beside(__file__, "register.lua")
_read = Script.beside(__file__, "read.lua")
_answer = Script.beside(__file__, "answer.lua")
_note_clients = Script.beside(__file__, "note_clients.lua")


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """What a node wrote of itself (`facts`, JSON), and until when, by Redis's clock in milliseconds, it was there."""

    node: str
    facts: bytes
    until_ms: float
    alive: bool


class NodeStore:
    """Every method raises Unavailable."""

    def __init__(self, redis: Runner, keys: Keys) -> None:
        self._redis, self._keys = redis, keys
        self._places = [keys.shared("nodes"), keys.shared("node-facts")]

    def register(self, node: str, facts: bytes, lease_seconds: float = LEASE_SECONDS) -> None:
        """Say that a node is there for `lease_seconds` more; with 0 that it has ended."""
        times = [round(lease_seconds * 1000), round(KNOWN_SECONDS * 1000)]
        self._redis.run(_register, self._places, [node, facts, *times, MAX_NODES])

    def nodes(self) -> list[NodeRecord]:
        """Return the nodes that are there, and those that were within the last hour: at most 1,000."""
        now, *rest = self._redis.run(_read, self._places, [])
        found = zip(rest[::3], rest[1::3], rest[2::3], strict=True)
        return [NodeRecord(one.decode(), facts, float(end), float(end) > float(now)) for one, end, facts in found]

    def note_clients(self, node: str, lines: bytes) -> bool:
        """Add lines of a node's roster, a piece at most, to those that are known for an hour more.

        Return whether there were any: Redis may have lost them.
        """
        limits = [PIECE_BYTES, MAX_PIECES, round(KNOWN_SECONDS * 1000)]
        return bool(self._redis.run(_note_clients, [self._keys.shared("node-clients", node)], [lines, *limits]))

    def clients_of(self, node: str) -> list[bytes]:
        """Return the pieces of a node's roster, the oldest first."""
        found: list[bytes] = self._redis.command("LRANGE", self._keys.shared("node-clients", node), 0, -1)
        return found

    def is_there(self, node: str) -> bool:
        """Tell whether anybody hears a node's channel: one that was killed has its lease for a while."""
        return self._publish(node, _THERE)

    def ask(self, node: str, question: str, verb: str, text: bytes) -> bool:
        """Ask a node something, under the id `question`; return whether anybody hears its channel."""
        return self._publish(node, f"{ASK}\n{question}\n{verb}\n{text.decode()}")

    def answer(self, question: str, text: bytes) -> None:
        """Answer a question."""
        self._redis.run(_answer, [self._answers(question)], [text, round(ANSWER_SECONDS * 1000)])

    def next_answer(self, question: str) -> bytes | None:
        """Return the next answer to a question; None where there is none now."""
        found: bytes | None = self._redis.command("LPOP", self._answers(question))
        return found

    def _answers(self, question: str) -> str:
        return self._keys.shared("answers", question)

    def _publish(self, node: str, message: str) -> bool:
        return bool(self._redis.command("PUBLISH", self._keys.of_node(node), message))
