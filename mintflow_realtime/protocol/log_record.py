"""The text of one log record.

It is made here once, with two gaps (its id and its time) that Redis fills, and is never decoded by Lua: cjson turns
`[]` into `{}` and rounds 9007199254740993.
"""

from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from mintflow_realtime.protocol.cutting import cut_object, cut_text
from mintflow_realtime.protocol.errors import InvalidPayload
from mintflow_realtime.protocol.logs import Level, NewLog
from mintflow_realtime.protocol.wire_json import encode

MAX_RECORD_BYTES = 65_536
# What Redis adds to the text: an id of two numbers (31 at most) and a time of 24 characters, with room to spare.
_GAP_BYTES = 64
# The text of a record around its own parts.
_FRAME_BYTES = len('{"logId":"' + ',"metadata":' + ',"createdAt":"' + '"}')


class _Shown(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    tenant_id: str
    flow_id: str | UnsetType
    run_id: str | UnsetType
    node_id: str | UnsetType
    trace_id: str | UnsetType
    log_level: Level


_START = '{"logId":"'
_END = '"}'


@dataclass(frozen=True, slots=True)
class LogDraft:
    """A record that lacks its id and time. `body` is the JSON text between the two.

    `message_start` and `message_end` say where the message's JSON string lies, in bytes before the end of the whole
    text: the id's length is not known yet, what follows the message is.
    """

    log: NewLog
    body: str
    message_start: int
    message_end: int

    @classmethod
    def of(cls, tenant: str, log: NewLog, trace_id: str = "") -> "LogDraft":
        """Write `log` as text; one without a trace is of `trace_id`. Raises `InvalidPayload` for what JSON can't say.

        Over 64 KB its message is cut, and where that isn't enough members of its metadata are left out; it is then
        `truncated`, and `originalLength` says how many characters the message had.
        """
        shown = _Shown(
            tenant_id=tenant,
            flow_id=log.flow_id or UNSET,
            run_id=log.run_id or UNSET,
            node_id=log.node_id or UNSET,
            trace_id=log.trace_id or trace_id or UNSET,
            log_level=log.log_level,  # type: ignore[arg-type]
        )
        head = b'",' + encode(shown)[1:-1] + b',"message":'
        happened = b"" if log.timestamp is UNSET else b',"timestamp":"%b"' % str(log.timestamp).encode()
        message, metadata, cut = _text(log.message, "$.message"), _text(log.metadata or {}, "$.metadata"), b""
        room = MAX_RECORD_BYTES - _GAP_BYTES - _FRAME_BYTES - len(head) - len(happened)
        if len(message) + len(metadata) > room:
            cut = b',"truncated":true,"originalLength":%d' % len(log.message)
            room -= len(cut)
            if len(metadata) > room // 2:
                metadata = cut_object(log.metadata or {}, max(room // 2, room - len(message)))
            message = cut_text(message, room - len(metadata))
            log = msgspec.structs.replace(log, message=msgspec.json.decode(message))
        tail = b',"metadata":' + metadata + cut + happened + b',"createdAt":"'
        body = head + message + tail
        # 24 is the width of a time on the wire.
        after = len(tail) + 24 + len(_END)
        return cls(log=log, body=body.decode(), message_start=after + len(message), message_end=after)

    @property
    def level(self) -> Level:
        """Return the record's level."""
        return self.log.log_level  # type: ignore[return-value]

    @property
    def pieces(self) -> tuple[str, str, str]:
        """The payload of `new_log`, around the two gaps that the append fills: the id and the time."""
        return f'["new_log",{{"log":{_START}', self.body, f"{_END}}}]"

    def text(self, log_id: str, created_at: str) -> str:
        """Return the record as it was stored and announced, given what filled its gaps."""
        return f"{_START}{log_id}{self.body}{created_at}{_END}"


def _text(value: Any, path: str) -> bytes:
    try:
        return encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise InvalidPayload(f"Expected what JSON can say: {error}", path) from None
