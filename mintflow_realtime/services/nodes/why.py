"""Why somebody got an event, or didn't: the log says to whom it went, the nodes what became of it."""

from msgspec import UNSET

from mintflow_realtime.auth.policy import ADMIN, READ_SCOPE
from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.fanout.publish.publisher import Publisher
from mintflow_realtime.protocol.envelope import Announcement, Offset, Policy, parse_offset
from mintflow_realtime.protocol.errors import InvalidPayload, NotFound
from mintflow_realtime.protocol.times import iso
from mintflow_realtime.protocol.why import AskWhy, HeardBy, NodeTells, Stay, Told, Why, WhyQuery
from mintflow_realtime.protocol.wire_json import loads
from mintflow_realtime.services.nodes.questions import Questions
from mintflow_realtime.services.nodes.verdict import Numbered, Verdict, judge
from mintflow_realtime.stores.nodes.roster import was_there

WHY = "why"
BUILT_IN = ("/flows", "/logs", "/workspaces", "/ai")
# What is shown of a user's connections, and of nodes that are gone.
MAX_SHOWN = 100
MAX_GONE = 10


class Reasons:
    """Asks log and nodes. Every method raises Unavailable where Redis doesn't answer."""

    def __init__(self, publisher: Publisher, questions: Questions) -> None:
        self._publisher, self._questions = publisher, questions

    def why(self, principal: Principal, query: WhyQuery) -> Why:
        """Return what became of an event for a user.

        Raises Forbidden without `admin`, NotFound for an event that its log doesn't hold (any more).
        """
        principal.require(ADMIN)
        tenant = query.tenant or principal.tenant
        namespace, announcement, at = self._event(tenant, query)
        header = announcement.header
        event = Numbered(parsed(query.offset), at, header.rooms, header.except_sid, header.policy is Policy.DROP_OLDEST)
        asked = AskWhy(
            tenant=tenant,
            user_id=query.user_id,
            namespace=namespace,
            offset=query.offset,
            rooms=event.relevant_rooms,
        )
        answers, unanswered = self._questions.ask(WHY, asked, NodeTells)
        heard = [(node, tells.heard_at) for node, tells in answers.items() if tells.heard_at is not None]
        shown = _for_each(event, answers)
        if not any(one.outcome not in ("not_connected", "not_permitted", "unknown") for one in shown):
            shown += self._gone(asked, event)
        return Why(
            offset=query.offset,
            namespace=namespace,
            numbered_at=iso(round(at)),
            name=str(loads(announcement.arguments)[0]),
            rooms=list(header.rooms),
            nodes=[HeardBy(node, iso(round(when))) for node, when in sorted(heard, key=lambda pair: pair[1])],
            connections=(shown or [_for_none(query.user_id, namespace, answers)])[-MAX_SHOWN:],
            unanswered=unanswered,
        )

    def _event(self, tenant: str, query: WhyQuery) -> tuple[str, Announcement, float]:
        offset = parsed(query.offset)
        for namespace in [query.namespace] if query.namespace else BUILT_IN:
            found = self._publisher.event(tenant, namespace, offset)
            if found is not None:
                return namespace, *found
        where = f"in {query.namespace}" if query.namespace else "in the built-in namespaces: name another"
        raise NotFound(f"The tenant {tenant} has no such event any more {where}")

    def _gone(self, asked: AskWhy, event: Numbered) -> list[Told]:
        """Return an entry for each node that the user was connected to at the time, and which has ended since."""
        found, store = [], self._questions.store
        for record in store.nodes():
            # A lease ends later than its node.
            if record.until_ms < event.at or (record.alive and store.is_there(record.node)):
                continue
            if was_there(store.clients_of(record.node), asked.tenant, asked.namespace, asked.user_id, event.at):
                who = f"{asked.user_id} was connected to {record.node} then"
                sentence = f"node gone: {who}, and what it knew has ended with it"
                found.append(Told(sid=None, node_id=record.node, outcome="node_gone", sentence=sentence))
        return found[:MAX_GONE]


def parsed(text: str) -> Offset:
    """Return an offset. Raises InvalidPayload."""
    offset = parse_offset(text)
    if offset is None:
        raise InvalidPayload("Expected an offset, epoch-number", "$.offset")
    return offset


def _for_each(event: Numbered, answers: dict[str, NodeTells]) -> list[Told]:
    """Return what became of it for each client that some node knows: its connections may have been to several."""
    by_sid: dict[str, list[tuple[Stay, NodeTells, str]]] = {}
    for node, tells in answers.items():
        for stay in tells.stays:
            by_sid.setdefault(stay.sid, []).append((stay, tells, node))
    found: list[tuple[float, Told]] = []
    for sid, stays in by_sid.items():
        stays.sort(key=lambda one: one[0].connected_at)
        verdict = judge(event, [(stay, tells) for stay, tells, _ in stays])
        found.append((stays[0][0].connected_at, _told(sid, stays[-1][2], verdict)))
    return [told for _, told in sorted(found, key=lambda pair: pair[0])]


def _for_none(user_id: str, namespace: str, answers: dict[str, NodeTells]) -> Told:
    """Return why a user has no connection that any node knows of."""
    refused = max((tells.refused for tells in answers.values() if tells.refused), default=None)
    lacks = any(tells.lacks for tells in answers.values())
    needs = READ_SCOPE.get(namespace)
    if lacks or (refused is not None and refused[1] == "forbidden"):
        when = f", refused at {iso(round(refused[0]))}" if refused is not None else ""
        sentence = f"not permitted: {namespace} needs the scope {needs}{when}"
        at = refused[0] if refused is not None else 0
        return _told(None, None, Verdict("not_permitted", at, sentence))
    when = f"; refused at {iso(round(refused[0]))} ({refused[1]})" if refused is not None else ""
    return _told(None, None, Verdict("not_connected", 0, f"not connected: {user_id} wasn't in {namespace}{when}"))


def _told(sid: str | None, node: str | None, verdict: Verdict) -> Told:
    at = iso(round(verdict.at)) if verdict.at else UNSET
    return Told(sid=sid, node_id=node, outcome=verdict.outcome, at=at, sentence=verdict.sentence)
