"""Requests that may come twice: an idempotency key, and what it was used for."""

import hashlib
from dataclasses import dataclass
from typing import Any

from msgspec import UNSET, UnsetType

from mintflow_realtime.protocol.errors import InvalidPayload
from mintflow_realtime.protocol.wire_json import dumps

MAX_IDEMPOTENCY_KEY = 255


@dataclass(frozen=True, slots=True)
class Repeat:
    """An idempotency key, honoured for 10 minutes by user and namespace, and the digest of the request that used it.

    `record` names what is remembered of it in its tenant; `earlier` is the name that earlier versions gave it, where
    it counts for the same request alone.
    """

    record: str
    digest: str
    earlier: str

    @classmethod
    def of(cls, key: str | UnsetType | None, *request: Any, user: str = "system") -> "Repeat | None":
        """Return the key of `user` for `request`, whatever JSON says of it; None without a key.

        The request's first part is its namespace. Raises InvalidPayload.
        """
        if key is None or key is UNSET:
            return None
        if not isinstance(key, str) or not 1 <= len(key) <= MAX_IDEMPOTENCY_KEY:
            raise InvalidPayload(f"An idempotency key has 1 to {MAX_IDEMPOTENCY_KEY} characters", "$.idempotencyKey")
        try:
            texts = (dumps([user, *request[:1], key]), dumps(request), key)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise InvalidPayload(f"Expected what JSON can say: {error}") from None
        return cls(*(hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() for text in texts))
