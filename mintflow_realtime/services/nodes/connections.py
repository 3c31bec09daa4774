"""Who is connected, over all nodes: by pages, for a caller's tenant, or for all with the scope `admin`."""

from collections.abc import Iterable
from typing import TypeVar

import msgspec
from msgspec import UNSET

from mintflow_realtime.auth.policy import ADMIN
from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.protocol.errors import Forbidden, NotFound, Unavailable
from mintflow_realtime.protocol.nodes import (
    AskConnections,
    AskPage,
    AskToClose,
    Closed,
    CloseQuery,
    ConnectionInfo,
    ConnectionPage,
    ConnectionQuery,
    NodeInfo,
    NodeList,
    PresencePage,
    PresenceQuery,
    PresentUser,
    Some,
)
from mintflow_realtime.services.nodes.questions import Questions

CONNECTIONS, PRESENCE, CLOSE = "connections", "presence", "close"

_facts = msgspec.json.Decoder(NodeInfo)

Row = TypeVar("Row")


class Connections:
    """Asks the nodes. Every method raises Unavailable where Redis doesn't answer."""

    def __init__(self, questions: Questions) -> None:
        self._questions = questions

    def nodes(self, principal: Principal) -> NodeList:
        """Return the nodes that are there, the oldest first. Raises Forbidden without `admin`: they serve everybody."""
        principal.require(ADMIN)
        store = self._questions.store
        found = [_facts.decode(one.facts) for one in store.nodes() if one.alive and store.is_there(one.node)]
        return NodeList(sorted(found, key=lambda node: (node.since, node.node_id)))

    def page(self, principal: Principal, query: ConnectionQuery) -> ConnectionPage:
        """Return connections in the order of their sids. Raises Forbidden for another tenant's without `admin`.

        Addresses are shown to `admin` and API keys, and to users their own.
        """
        tenant = _tenant(principal, query.tenant)
        question = AskConnections(
            tenant=tenant, user_id=query.user_id, room=query.room, limit=query.limit, after=query.after or ""
        )
        answers, unanswered = self._questions.ask(CONNECTIONS, question, Some[ConnectionInfo])
        rows = [row for answer in answers.values() for row in answer.rows]
        rows.sort(key=lambda row: row.sid)
        ends = [one.rows[-1].sid for one in answers.values() if one.more and one.rows]
        rows, more = _cut(rows, [row.sid for row in rows], ends, query.limit)
        shown = [row if _sees_address(principal, row) else msgspec.structs.replace(row, address=None) for row in rows]
        after = rows[-1].sid if more and rows else UNSET
        return ConnectionPage(connections=shown, next_after=after, unanswered=unanswered)

    def presence(self, principal: Principal, query: PresenceQuery) -> PresencePage:
        """Return users who are connected, by tenant and id. Raises Forbidden for another tenant's without `admin`."""
        question = AskPage(tenant=_tenant(principal, query.tenant), limit=query.limit, after=query.after or "")
        answers, unanswered = self._questions.ask(PRESENCE, question, Some[PresentUser])
        rows = _joined(row for answer in answers.values() for row in answer.rows)
        keys = [place_of(row.tenant, row.user_id) for row in rows]
        ends = [
            place_of(one.rows[-1].tenant, one.rows[-1].user_id) for one in answers.values() if one.more and one.rows
        ]
        rows, more = _cut(rows, keys, ends, query.limit)
        after = place_of(rows[-1].tenant, rows[-1].user_id) if more and rows else UNSET
        return PresencePage(users=rows, next_after=after, unanswered=unanswered)

    def close(self, principal: Principal, sid: str) -> None:
        """Disconnect the client of `sid`, its sid in any namespace, for good: stock clients stay away.

        Raises NotFound where the caller may close no such one: a user closes its own, API keys their tenant's, `admin`
        all. Raises Unavailable where a node that may have it gave no answer.
        """
        closed, unanswered = self._close(AskToClose(sid=sid, **_may_close(principal, None)))
        if not closed and unanswered:
            raise Unavailable("Not every node answered; it may be connected to one of the others")
        if not closed:
            raise NotFound("There is no such connection")

    def close_user(self, principal: Principal, query: CloseQuery) -> Closed:
        """Disconnect all of a user's clients for good. Raises Forbidden as `close` finds nothing."""
        may = _may_close(principal, query.tenant)
        if may["user_id"] not in (None, query.user_id):
            raise Forbidden("Others' connections are closed by an API key or the scope admin")
        closed, unanswered = self._close(AskToClose(sid=None, tenant=may["tenant"], user_id=query.user_id))
        if unanswered:
            raise Unavailable(f"Not every node answered; {closed} connections of the others were closed")
        return Closed(closed)

    def _close(self, question: AskToClose) -> tuple[int, list[str]]:
        answers, unanswered = self._questions.ask(CLOSE, question, Closed)
        return sum(answer.closed for answer in answers.values()), unanswered


def place_of(tenant: str, user_id: str) -> str:
    """Return what users are sorted by, and a page goes on from."""
    return f"{tenant} {user_id}"


def _tenant(principal: Principal, wanted: str | None) -> str | None:
    """Return the tenant to look at, None for all. Raises Forbidden."""
    if principal.admin or wanted == principal.tenant:
        return wanted
    if wanted is None:
        return principal.tenant
    raise Forbidden("Another tenant's connections are shown with the scope admin", permission=ADMIN)


def _may_close(principal: Principal, wanted: str | None) -> dict[str, str | None]:
    tenant = _tenant(principal, wanted)
    trusted = principal.admin or principal.kind == "api_key"
    return {"tenant": tenant, "user_id": None if trusted else principal.user_id}


def _sees_address(principal: Principal, row: ConnectionInfo) -> bool:
    return principal.admin or principal.kind == "api_key" or row.user_id == principal.user_id


def _joined(rows: Iterable[PresentUser]) -> list[PresentUser]:
    found: dict[str, PresentUser] = {}
    for row in rows:
        place = place_of(row.tenant, row.user_id)
        here = found.get(place)
        if here is not None:
            total = here.connections + row.connections
            row = msgspec.structs.replace(row, connections=total, since=min(here.since, row.since))
        found[place] = row
    return [found[place] for place in sorted(found)]


def _cut(rows: list[Row], keys: list[str], ends: list[str], limit: int) -> tuple[list[Row], bool]:
    """Return the first rows, and whether there are more. Beyond the first of `ends` a node may have others between."""
    known = len(rows)
    if ends:
        first = min(ends)
        known = sum(key <= first for key in keys)
    return rows[: min(known, limit)], bool(ends) or len(rows) > limit
