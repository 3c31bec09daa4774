"""What is remembered of tokens: which tickets are spent, and what was revoked. Every key has a TTL."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from mintflow_realtime.protocol import wire_json
from mintflow_realtime.protocol.ids import encode_id
from mintflow_realtime.protocol.scripts import Keys, Runner, Script

_SPEND = Script.beside(__file__, "spend.lua")
_REVOKE = replace(Script.beside(__file__, "revoke.lua"), durable=True)
# Keys of one MGET: 1,000 take Redis about half a millisecond, in which nobody else is served.
_KEYS_A_READ = 1000


class Holder(NamedTuple):
    """Whom a token vouches for, as far as a revocation can name it. `iat` is in unix seconds."""

    tenant: str
    user_id: str
    jti: str | None
    iat: float | None


class AccessStore:
    """Spent tickets and revocations. Every method raises `Unavailable` when Redis doesn't answer."""

    def __init__(self, runner: Runner, keys: Keys) -> None:
        self._runner = runner
        self._keys = keys

    def spend_ticket(self, ticket_id: str, session: str, ttl_seconds: float) -> bool:
        """Tell whether `session` may use the ticket: the first session that shows it wins, and may show it again.

        `ttl_seconds` must outlive the ticket.
        """
        key = self._keys.shared("ticket", ticket_id)
        return bool(self._runner.run(_SPEND, [key], [session, math.ceil(ttl_seconds)]))

    def revoke_user(self, tenant: str, user_id: str, now: float, ttl_seconds: float) -> None:
        """Refuse the tokens of `user_id` in `tenant` issued until `now` (unix seconds), and tell all nodes."""
        self._revoke(tenant, self._user_key(tenant, user_id), {"userId": user_id}, now, ttl_seconds)

    def revoke_token(self, tenant: str, jti: str, now: float, ttl_seconds: float) -> None:
        """Refuse the token `jti` in `tenant`, and tell all nodes."""
        self._revoke(tenant, self._token_key(tenant, jti), {"jti": jti}, now, ttl_seconds)

    def revoked(self, holder: Holder) -> bool:
        """Tell whether the token of `holder` was revoked, by user or by `jti`."""
        return self.revoked_many([holder])[0]

    def revoked_many(self, holders: Sequence[Holder]) -> list[bool]:
        """Tell it of each of `holders`, in their order, with one read for up to 500 of a tenant."""
        # By tenant, since the keys of two tenants lie in two slots of a cluster.
        places: dict[str, list[int]] = {}
        for place, holder in enumerate(holders):
            places.setdefault(holder.tenant, []).append(place)
        answers = [False] * len(holders)
        for tenant, mine in places.items():
            for start in range(0, len(mine), _KEYS_A_READ // 2):
                page = mine[start : start + _KEYS_A_READ // 2]
                keys: list[str] = []
                for place in page:
                    holder = holders[place]
                    by_user = self._user_key(tenant, holder.user_id)
                    # Without a jti the user's key is read twice: simpler than rows of two widths.
                    keys += [by_user, by_user if holder.jti is None else self._token_key(tenant, holder.jti)]
                found: list[Any] = self._runner.command("MGET", *keys)
                for row, place in enumerate(page):
                    answers[place] = _is_revoked(holders[place], found[2 * row], found[2 * row + 1])
        return answers

    def _revoke(self, tenant: str, key: str, whom: dict[str, str], now: float, ttl_seconds: float) -> None:
        message = wire_json.dumps({"revoked": whom, "at": now})
        # repr: a rounded time could fall before a token that was issued in the same millisecond.
        self._runner.run(
            _REVOKE, [key], [repr(float(now)), math.ceil(ttl_seconds), self._keys.of(tenant, "control"), message]
        )

    def _user_key(self, tenant: str, user_id: str) -> str:
        return self._keys.of(tenant, "revoked", "user", encode_id(user_id))

    def _token_key(self, tenant: str, jti: str) -> str:
        # A jti is any text of the issuer's, so it enters a key as a digest of fixed size.
        return self._keys.of(tenant, "revoked", "jti", hashlib.sha256(jti.encode()).hexdigest())


def _is_revoked(holder: Holder, by_user: bytes | None, by_token: bytes | None) -> bool:
    if by_user is not None and (holder.iat is None or holder.iat <= float(by_user)):
        return True
    return holder.jti is not None and by_token is not None
