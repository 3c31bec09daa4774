"""A sample of the load's deliveries, asked of the server itself: what it says must be what its clients saw."""

import random
import time
from collections import Counter
from pathlib import Path

from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.fanout.publish.publisher import Caps, Publisher
from mintflow_realtime.protocol.errors import NotFound
from mintflow_realtime.protocol.scripts import Keys
from mintflow_realtime.protocol.why import Why, WhyQuery
from mintflow_realtime.services.nodes.questions import Questions
from mintflow_realtime.services.nodes.why import Reasons
from mintflow_realtime.stores.nodes.store import NodeStore
from mintflow_realtime.stores.redis.url import open_redis
from tests.cluster.oracle.ledger import read_histories, read_publishes
from tests.cluster.oracle.publishers import WORKSPACES
from tests.cluster.oracle.records import OK, Publish

PREFIX = "mf0"
SAMPLE = 80
# What clients saw is in their files a moment later.
SETTLED_SECONDS = 2.0
GOT = frozenset({"delivered", "replayed"})
# The server says that it doesn't know.
OPEN = frozenset({"unknown", "node_gone"})


def ask_why(where: Path, redis_url: str, chance: random.Random, since: float = 0.0) -> tuple[list[str], Counter[str]]:
    """Return where the server contradicts what clients saw, and how often it said what.

    Of what was published after `since`, when Redis lost everything for the last time.
    """
    received = {
        (history.tenant, history.client, history.namespace): {one.value for one in history.seen if one.kind == "event"}
        for history in read_histories(where)
    }
    publishes = [
        one
        for one in read_publishes(where)
        if one.outcome == OK and one.offset and one.attempts == 1
        if one.begun > since and one.ended < time.monotonic() - SETTLED_SECONDS
    ]
    complaints: list[str] = []
    said: Counter[str] = Counter()
    redis = open_redis(redis_url)
    keys = Keys(PREFIX)
    reasons = Reasons(Publisher(redis, keys, Caps()), Questions(NodeStore(redis, keys)))
    try:
        for publish in chance.sample(publishes, min(SAMPLE, len(publishes))):
            places = [place for place in received if place[0] == publish.tenant and place[2] == publish.namespace]
            place = chance.choice(sorted(places))
            try:
                found = reasons.why(Principal.system(publish.tenant), _query(publish, place[1]))
            except NotFound:
                # Redis was killed, and lost the last second.
                said["no longer known"] += 1
                continue
            outcomes = {one.outcome for one in found.connections}
            said.update(outcomes)
            if found.unanswered or outcomes & OPEN:
                continue
            got = publish.id in received[place]
            # In a workspace a full state stands for several events.
            if got != bool(outcomes & GOT) and (got or publish.namespace != WORKSPACES):
                complaints.append(_contradiction(publish, place[1], got, found))
    finally:
        redis.close()
    if said.total() - said["no longer known"] >= SAMPLE // 4 and not said.keys() & GOT:
        complaints.append(f"the server explains no delivery at all: {dict(said)}")
    return complaints, said


def _query(publish: Publish, client: str) -> WhyQuery:
    return WhyQuery(offset=publish.offset or "", user_id=f"user-{int(client)}", namespace=publish.namespace)


def _contradiction(publish: Publish, client: str, got: bool, found: Why) -> str:
    sentences = "; ".join(f"{one.sid} on {one.node_id}: {one.sentence}" for one in found.connections)
    return (
        f"client {client} has {'' if got else 'not '}seen {publish.id} ({publish.offset} in {publish.namespace}, room "
        f"{publish.room or 'tenant'}), and the server says: {sentences}"
    )
