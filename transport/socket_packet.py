"""Socket.IO packets, stricter than the library's, and the answer to one event."""

from collections.abc import Callable
from typing import Any

from socketio import packet

MAX_ATTACHMENTS = 10


class StrictPacket(packet.Packet):  # type: ignore[misc]
    """The library's packet, with at most 10 attachments, each placeholder naming one of them."""

    def decode(self, encoded_packet: str) -> int:
        count: int = super().decode(encoded_packet) or 0
        if count > MAX_ATTACHMENTS:
            raise ValueError(f"More than {MAX_ATTACHMENTS} attachments")
        return count

    @classmethod
    def _reconstruct_binary_internal(cls, data: Any, attachments: list[bytes]) -> Any:
        if isinstance(data, dict) and data.get("_placeholder"):
            number = data.get("num")
            if type(number) is not int or not 0 <= number < len(attachments):
                raise ValueError("A placeholder without its attachment")
        return super()._reconstruct_binary_internal(data, attachments)


class Reply:
    """How one event is answered: by ack if the client asked for one, by an event otherwise."""

    __slots__ = ("_send", "_namespace", "_id")

    def __init__(self, send: Callable[[StrictPacket], None], namespace: str, id: int | None) -> None:
        self._send, self._namespace, self._id = send, namespace, id

    @property
    def acked(self) -> bool:
        return self._id is not None

    def ack(self, value: Any) -> None:
        """Answer with the one argument of the ack."""
        self._send(StrictPacket(packet.ACK, [value], self._namespace, self._id, binary=False))

    def emit(self, event: str, value: Any) -> None:
        """Answer with an event."""
        self._send(StrictPacket(packet.EVENT, [event, value], self._namespace, binary=False))
