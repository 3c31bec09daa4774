"""Socket.IO packets of a test's client, as text and the bytes that follow it (protocol v5)."""

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

CONNECT, DISCONNECT, EVENT, ACK, CONNECT_ERROR, BINARY_EVENT, BINARY_ACK = range(7)
_HEAD = re.compile(r"([0-6])(?:([0-9]+)-)?(?:(/[^,]*),)?([0-9]+)?")


class SocketPacket(NamedTuple):
    """One packet: `content` is its JSON, in which `attachments` bytes still have their places."""

    kind: int
    namespace: str
    id: int | None
    content: Any
    attachments: int = 0


def encode(kind: int, namespace: str, content: Any = None, id: int | None = None) -> list[str | bytes]:
    """Return the Engine.IO packets of one packet: its text, then its bytes."""
    found: list[bytes] = []
    text = "" if content is None else json.dumps(_take_bytes(content, found), separators=(",", ":"))
    if found:
        kind += BINARY_EVENT - EVENT
    head = f"4{kind}{f'{len(found)}-' if found else ''}{'' if namespace == '/' else namespace + ','}"
    return [f"{head}{'' if id is None else id}{text}", *found]


def decode(text: str) -> SocketPacket:
    """Return the packet of `text`, without Engine.IO's 4. Raises ValueError."""
    head = _HEAD.match(text)
    if head is None:
        raise ValueError(f"no Socket.IO packet: {text[:100]!r}")
    kind, attachments, namespace, id = head.groups()
    rest = text[head.end() :]
    content = json.loads(rest) if rest else None
    return SocketPacket(int(kind), namespace or "/", int(id) if id else None, content, int(attachments or 0))


def with_bytes(packet: SocketPacket, attachments: Sequence[bytes]) -> SocketPacket:
    """Return the packet with its bytes in their places."""
    kind = packet.kind - (BINARY_EVENT - EVENT)
    return packet._replace(kind=kind, content=_put_bytes(packet.content, attachments), attachments=0)


def _take_bytes(value: Any, found: list[bytes]) -> Any:
    if isinstance(value, (bytes, bytearray)):
        found.append(bytes(value))
        return {"_placeholder": True, "num": len(found) - 1}
    if isinstance(value, dict):
        return {key: _take_bytes(part, found) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_take_bytes(part, found) for part in value]
    return value


def _put_bytes(value: Any, attachments: Sequence[bytes]) -> Any:
    if isinstance(value, dict):
        if value.get("_placeholder") is True:
            return attachments[value["num"]]
        return {key: _put_bytes(part, attachments) for key, part in value.items()}
    if isinstance(value, list):
        return [_put_bytes(part, attachments) for part in value]
    return value
