"""One question to all nodes at once, and the answers of those that give one in time."""

import secrets
import time
from collections.abc import Callable
from typing import TypeVar

import msgspec

from mintflow_realtime.stores.nodes.store import NodeStore

# The whole answer is there within a second.
PATIENCE_SECONDS = 0.8
# How often it is looked for answers: soon at first, since most come within some milliseconds.
FIRST_LOOK, LAST_LOOK = 0.002, 0.02

Answer = TypeVar("Answer")


class _Answered(msgspec.Struct):
    node: str
    answer: msgspec.Raw = msgspec.Raw(b"null")


_answered = msgspec.json.Decoder(_Answered)


class Questions:
    """Asks nodes. Every method raises Unavailable where Redis doesn't answer."""

    def __init__(
        self, store: NodeStore, patience: float = PATIENCE_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.store = store
        self._patience, self._clock = patience, clock

    def ask(self, verb: str, question: msgspec.Struct, kind: type[Answer]) -> tuple[dict[str, Answer], list[str]]:
        """Return the answers of all nodes, by node, and the nodes that are there and gave none.

        A node that nobody hears is gone, though its lease goes on; one of an older version may not know the question.
        """
        deadline = self._clock() + self._patience
        name, text = secrets.token_hex(8), msgspec.json.encode(question)
        alive = [record.node for record in self.store.nodes() if record.alive]
        waited = {node for node in alive if self.store.ask(node, name, verb, text)}
        found: dict[str, Answer] = {}
        failed: list[str] = []
        decoder, pause = msgspec.json.Decoder(kind), FIRST_LOOK
        while waited:
            reply = self.store.next_answer(name)
            if reply is None:
                if self._clock() >= deadline:
                    break
                time.sleep(pause)
                pause = min(LAST_LOOK, pause * 1.5)
                continue
            answered = _answered.decode(reply)
            if answered.node not in waited:
                continue
            waited.discard(answered.node)
            try:
                found[answered.node] = decoder.decode(answered.answer)
            except msgspec.DecodeError:
                failed.append(answered.node)
        return found, sorted([*waited, *failed])


def to_answer(node: str, answer: msgspec.Struct | None) -> bytes:
    """Return what a node answers; None for a question that it doesn't know, or could not answer."""
    return msgspec.json.encode({"node": node, "answer": answer})
