"""The log store against a real Redis: what is kept, found, trimmed and cleared, and that nothing is left behind."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mintflow_realtime.stores.logs.store
from mintflow_realtime.protocol.errors import InvalidPayload, Unavailable
from mintflow_realtime.protocol.ids import is_id
from mintflow_realtime.protocol.log_record import MAX_RECORD_BYTES, LogDraft
from mintflow_realtime.protocol.logs import (
    LEVELS,
    Cleared,
    ClearLogs,
    FilterLogs,
    LogHistory,
    LogRecord,
    LogsPage,
    NewLog,
    SubscribeLogs,
)
from mintflow_realtime.protocol.scripts import Arg, Change, Keys, Script
from mintflow_realtime.protocol.times import iso, now_ms
from mintflow_realtime.stores.logs.query import LogQuery
from mintflow_realtime.stores.logs.store import LogStore
from mintflow_realtime.stores.redis.client import RedisClient
from mintflow_realtime.stores.redis.connect import connect
from tests.redis_fixture import OLDEST, PrivateRedis

KEYS = Keys("t")
DRIVER = """
local at, out = 2, {}
for event = 1, tonumber(ARGV[1]) do
  local args, count = {}, tonumber(ARGV[at])
  for i = 1, count do args[i] = ARGV[at + i] end
  at = at + count + 1
  local texts, code, text = change(KEYS, args)
  if not texts then return redis.error_reply('REFUSED ' .. code .. ' ' .. text) end
  out[event] = texts
end
return out
"""


@pytest.fixture(scope="module", params=[None, OLDEST], ids=["installed", "6.2"])
def client(request: pytest.FixtureRequest) -> Iterator[RedisClient]:
    server = PrivateRedis(request.param)
    redis_client = RedisClient(connect(server.url))
    yield redis_client
    redis_client.close()
    server.stop()


@dataclass
class World:
    client: RedisClient
    store: LogStore
    now: int = field(default_factory=lambda: now_ms() - 3_600_000)

    def run(self, change: Change) -> list[list[str]]:
        args: list[Arg] = [len(change.args)]
        for event in [*change.args[:-1], [*change.args[-1], *change.closing]]:
            args += [len(event), *event]
        reply = self.client.run(Script(change.lua + DRIVER), change.keys, args)
        return [[text.decode() for text in texts] for texts in reply]

    def append(self, *logs: NewLog, tenant: str = "acme") -> list[str]:
        """Append as one batch; return the records as announced."""
        drafts = [LogDraft.of(tenant, log) for log in logs]
        gaps = self.run(self.store.append_change(tenant, drafts))
        return [draft.text(*gap) for draft, gap in zip(drafts, gaps, strict=True)]

    def clear(self, **criterion: str) -> int:
        return int(self.run(self.store.clear_change("acme", **criterion))[0][0])

    def texts(self, **criteria: Any) -> list[str]:
        return [record.decode() for record in self.store.page("acme", LogQuery(**criteria)).records]

    def messages(self, **criteria: Any) -> list[str]:
        return [json.loads(text)["message"] for text in self.texts(**criteria)]

    def keys(self) -> dict[str, str]:
        """Return every key of the store, without its prefix, with its type."""
        found = {}
        for key in self.client.command("KEYS", "*"):
            kind = self.client.command("TYPE", key)
            found[key.decode().split(":logs:")[1]] = kind.decode()
        return found

    def check_exact(self) -> None:
        """Every index holds exactly the records that it should, nothing is hidden, and every key expires."""
        prefix = KEYS.of("acme", "logs", "")
        flat = self.client.run(Script("return redis.call('HGETALL', KEYS[1])"), [prefix + "rec"], [])
        values = dict(zip(flat[::2], flat[1::2], strict=True))
        expected: dict[str, set[bytes]] = {}
        for log_id, value in values.items():
            record = json.loads(value[value.index(b"{") :])
            assert record["logId"] == log_id.decode()
            names = ["all", f"level:{record['logLevel']}"]
            names += [f"{kind}:{record[kind + 'Id']}" for kind in ("flow", "run", "node") if kind + "Id" in record]
            for name in names:
                expected.setdefault(name, set()).add(log_id)
        kinds = self.keys()
        assert {name for name, kind in kinds.items() if kind == "zset"} == set(expected)
        script = Script("return redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')")
        for name, ids in expected.items():
            members = self.client.run(script, [prefix + name], [])
            assert set(members[::2]) == ids, name
            assert [int(log_id.split(b"-")[1]) for log_id in members[::2]] == [int(score) for score in members[1::2]]
        assert int(self.client.command("HGET", prefix + "head", "bytes") or 0) == sum(map(len, values.values()))
        assert set(kinds) - set(expected) <= {"rec", "head"}
        for name in kinds:
            assert 0 < self.client.command("PTTL", prefix + name) <= 604_800_000, name


@pytest.fixture
def make(client: RedisClient) -> Any:
    def build(**options: Any) -> World:
        client.command("FLUSHALL")
        created = World(client, LogStore(client, KEYS))
        created.store = LogStore(client, KEYS, clock=lambda: created.now, **options)
        return created

    return build


@pytest.fixture
def world(make: Any) -> World:
    return make()


def log(message: str = "m", level: Any = "info", **ids: Any) -> NewLog:
    return NewLog(log_level=level, message=message, **ids)


# What goes in, and what comes out


def test_record_is_stored_as_announced(world: World) -> None:
    new = log('Grüße "x" \\ \n\x01 €😀', "warn", flow_id="f", run_id="r", node_id="n", metadata={"a": [1]})
    [text] = world.append(new)
    assert world.texts() == [text]
    record = msgspec.json.decode(text, type=LogRecord)
    assert record.message == new.message
    assert record.created_at == iso(world.now)
    assert (record.tenant_id, record.flow_id, record.run_id, record.node_id) == ("acme", "f", "r", "n")
    assert is_id(record.log_id)
    draft = LogDraft.of("acme", new)
    first, second, third = draft.pieces
    payload = first + record.log_id + second + record.created_at + third
    assert payload == f'["new_log",{{"log":{text}}}]'
    world.check_exact()


def test_absent_ids_are_absent_and_metadata_is_an_object(world: World) -> None:
    [text] = world.append(log())
    record = json.loads(text)
    assert set(record) == {"logId", "tenantId", "logLevel", "message", "metadata", "createdAt"}
    assert record["metadata"] == {}


def nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


def test_cjson_spoils_json_and_the_store_does_not(world: World) -> None:
    metadata = {"empty": [], "object": {}, "big": 9007199254740993, "deep": nested(150), "one": 1.0}
    spoilt = Script("return cjson.encode(cjson.decode(ARGV[1]))")
    assert world.client.run(spoilt, [], ['{"a":[]}']) == b'{"a":{}}'
    assert b"9007199254740993" not in world.client.run(spoilt, [], ['{"a":9007199254740993}'])
    with pytest.raises(Exception, match="too many nested"):
        world.client.run(spoilt, [], ["[" * 1200 + "]" * 1200])
    world.append(log(metadata=metadata))
    [text] = world.texts()
    assert json.loads(text)["metadata"] == metadata
    assert '"empty":[],"object":{},"big":9007199254740993' in text
    answer = msgspec.json.encode(LogsPage(logs=[msgspec.Raw(text.encode())])).decode()
    assert answer == f'{{"logs":[{text}]}}'


def test_search_in_a_deep_record(world: World) -> None:
    world.append(log("needle", metadata={"deep": nested(900)}))
    assert world.messages(search="needle") == ["needle"]


def test_record_of_64_kb_at_most(world: World) -> None:
    room = MAX_RECORD_BYTES - len(world.append(log(""))[0])
    [text] = world.append(log("x" * (room - 64)))
    assert "truncated" not in text


@pytest.mark.parametrize("character", ["x", "é", "😀", '"', "\\", "\x01"])
def test_a_record_over_64_kb_is_cut_and_marked(world: World, character: str) -> None:
    for message, metadata in (
        ("ab" + character * 70_000, {"a": 1}),
        ("short", {"first": 1, "text": character * 70_000, "last": 2}),
        (character * 70_000, {"text": character * 70_000, "last": 2}),
    ):
        [text] = world.append(log(message, metadata=metadata, flow_id="f"))
        assert len(text.encode()) <= MAX_RECORD_BYTES and len(text.encode()) > MAX_RECORD_BYTES - 200
        record = json.loads(text)
        assert record["truncated"] is True and record["originalLength"] == len(message)
        assert message.startswith(record["message"]) and record["flowId"] == "f"
        assert {name: record["metadata"].get(name) for name in metadata if name != "text"} == {
            name: value for name, value in metadata.items() if name != "text"
        }
    decoded = msgspec.json.decode(text, type=LogRecord)
    assert decoded.truncated and decoded.original_length == 70_000
    world.append(log("short needle"))
    assert world.messages(search="NEEDLE") == ["short needle"]
    assert len(world.messages(search="ab" + character.lower())) == 1
    world.check_exact()


def test_a_record_says_when_it_happened(world: World) -> None:
    """Its place in the order, and its id, are those of its arrival."""
    times = ["2020-01-31T08:15:30.123Z", "2020-01-31T10:15:30.123+02:00", "2020-01-31 08:15:30.123", 1580458530123]
    texts = world.append(*(log(str(number), timestamp=time) for number, time in enumerate(times)), log("4"))
    found = [msgspec.json.decode(text, type=LogRecord) for text in texts]
    assert [one.timestamp for one in found[:4]] == ["2020-01-31T08:15:30.123Z"] * 4
    assert {one.created_at for one in found} == {iso(world.now)} and found[4].timestamp is msgspec.UNSET
    assert world.messages() == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("name", "level"),
    [
        *((name, "debug") for name in "debug DEBUG trace verbose silly NOTSET finest".split()),
        *((name, "info") for name in "info INFO information notice success log".split()),
        *((name, "warn") for name in "warn WARN warning Warning".split()),
        *(
            (name, "error")
            for name in "error ERROR err crit critical CRITICAL fatal alert emerg emergency panic".split()
        ),
    ],
)
def test_usual_levels_are_one_of_the_four(name: str, level: str) -> None:
    new = log(level=name)
    assert (new.log_level, new.metadata) == (level, None)
    assert NewLog(level=f" {name} ", message="m").log_level == level


@pytest.mark.parametrize("name", ["loud", "", "0", 40, 3.5, "x" * 64])
def test_another_level_is_info_and_kept(name: Any) -> None:
    assert (log(level=name).log_level, log(level=name).metadata) == ("info", {"level": name})
    assert log(level=name, timestamp=None).timestamp is msgspec.UNSET
    assert log(level="x" * 9999).metadata == {"level": "x" * 64}
    assert log(level=name, metadata={"level": "mine"}).metadata == {"level": "mine"}


def test_halves_of_characters_are_replaced_wherever_they_stand(world: World) -> None:
    [text] = world.append(log("caf\udce9 \ud83d\ude00", metadata={"k\ud800": [{"\udfff": "\udce9"}]}))
    record = json.loads(text)
    assert (record["message"], record["metadata"]) == ("caf� 😀", {"k�": [{"�": "�"}]})
    assert world.messages(search="caf�") == ["caf� 😀"]


@pytest.mark.parametrize(
    ("new", "path"),
    [
        (log(metadata={"a": object()}), "$.metadata"),
        (log(metadata={"a": nested(5000)}), "$.metadata"),
    ],
)
def test_what_json_cannot_say_is_refused(new: NewLog, path: str) -> None:
    with pytest.raises(InvalidPayload) as caught:
        LogDraft.of("acme", new)
    assert caught.value.details["path"] == path


# Order and time


def test_time_never_runs_back_nor_ahead_of_redis(world: World) -> None:
    start = world.now
    world.append(log("a"))
    world.now -= 5000
    world.append(log("b"))
    world.now = now_ms() + 365 * 86_400_000
    ahead = world.append(log("c"))
    world.now = start
    world.append(log("d"))
    records = [json.loads(text) for text in world.texts(to_ms=now_ms() + 1000)]
    assert [record["message"] for record in records] == ["a", "b", "c", "d"]
    times = [record["createdAt"] for record in records]
    assert times[0] == times[1] == iso(start)
    assert times[2] == times[3] <= iso(now_ms() + 1000)
    assert json.loads(ahead[0])["createdAt"] == times[2]
    numbers = [int(record["logId"].split("-")[1]) for record in records]
    assert numbers == [1, 2, 3, 4]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 1_750_000_000_000))
def test_time_text_is_that_of_python(make: Any, milliseconds: int) -> None:
    world = make()
    world.now = milliseconds
    [text] = world.append(log())
    assert json.loads(text)["createdAt"] == iso(milliseconds)


def test_tenants_are_apart(world: World) -> None:
    world.append(log("theirs", flow_id="f"), tenant="other")
    world.append(log("ours", flow_id="f"))
    assert world.messages() == ["ours"]
    world.clear(flow_id="f")
    assert [json.loads(r)["message"] for r in world.store.page("other", LogQuery(flow="f")).records] == ["theirs"]


# Pages


def test_pages_follow_each_other_newest_last(world: World) -> None:
    world.append(*(log(str(i)) for i in range(25)))
    first = world.store.page("acme", LogQuery(limit=10))
    assert [json.loads(r)["message"] for r in first.records] == [str(i) for i in range(15, 25)]
    world.append(log("later"))
    second = world.store.page("acme", LogQuery(limit=15, before=first.next_cursor))
    assert [json.loads(r)["message"] for r in second.records] == [str(i) for i in range(15)]
    assert second.next_cursor is None


def test_a_page_ends_at_512_kb(world: World) -> None:
    world.append(*(log(f"{i:02}" + "x" * 60_000) for i in range(20)))
    seen, cursor, pages = [], None, 0
    while True:
        page = world.store.page("acme", LogQuery(before=cursor))
        assert sum(map(len, page.records)) <= 524_288
        seen = [json.loads(r)["message"][:2] for r in page.records] + seen
        pages, cursor = pages + 1, page.next_cursor
        if cursor is None:
            break
    assert pages == 3
    assert seen == [f"{i:02}" for i in range(20)]
    sizes = [len(world.texts(search="XX")), len(world.texts(search="19x"))]
    assert sizes == [8, 1]


def test_head_is_read_with_the_page(world: World) -> None:
    head = KEYS.of("acme", "log", "/logs")
    assert world.store.page("acme", LogQuery(), head_key=head).head == 0
    world.client.command("HSET", head, "n", 41)
    world.append(log())
    page = world.store.page("acme", LogQuery(limit=0), head_key=head)
    assert (page.records, page.next_cursor, page.head) == ([], None, 41)
    assert world.store.page("acme", LogQuery(levels=frozenset()), head_key=head).head == 41


def test_search_reads_so_many_records_and_no_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mintflow_realtime.stores.logs.store, "SEARCH_RECORDS", 10)
    monkeypatch.setattr(mintflow_realtime.stores.logs.store, "SEARCH_SLICE", 4)
    world.append(log("needle"), *(log("hay") for _ in range(15)))
    page = world.store.page("acme", LogQuery(search="NEEDLE"))
    assert page.records == []
    assert page.next_cursor is not None
    rest = world.store.page("acme", LogQuery(search="NEEDLE", before=page.next_cursor))
    assert len(rest.records) == 1
    assert rest.next_cursor is None


@pytest.mark.parametrize(
    ("message", "search", "found"),
    [
        ("Connection RESET", "reset", True),
        ("Straße", "STRASSE", True),
        ("temperature 5 \u212a", "5 k", True),
        ("tab\there", "B\tH", True),
        ('say "hi"', '"HI"', True),
        ("back\\slash", "K\\S", True),
        ("plain", "(.+)", False),
        ("plain", "größe", False),
        ("line\nnext", "nn", False),
        ("plain", "metadata", False),
        ("plain", "acme", False),
        ("é", "acme", False),
    ],
)
def test_search_is_a_substring_whatever_the_case(world: World, message: str, search: str, found: bool) -> None:
    world.append(log("another"), log(message, metadata={"x": search}))
    assert world.messages(search=search) == ([message] if found else [])


@pytest.mark.parametrize("walk", [2, 1001])
def test_levels_are_merged_in_order(world: World, monkeypatch: pytest.MonkeyPatch, walk: int) -> None:
    monkeypatch.setattr(mintflow_realtime.stores.logs.store, "WALK", walk)
    world.append(*(log(str(i), LEVELS[i * 7 % 11 % 4]) for i in range(60)))
    some = frozenset({"warn", "debug", "error"})
    expected = [str(i) for i in range(60) if LEVELS[i * 7 % 11 % 4] in some]
    assert world.messages(levels=some) == expected
    assert world.messages(levels=some, limit=5) == expected[-5:]


ids = st.sampled_from(["a", "b", None])
entries = st.tuples(ids, ids, ids, st.sampled_from(LEVELS), st.sampled_from(["Apple", "banana", "ÄPFEL", ""]))
appends = st.tuples(st.integers(-3, 40), st.lists(entries, min_size=1, max_size=12))
clears = st.tuples(st.sampled_from(["flow", "run", "log"]), st.sampled_from("ab"), st.booleans())
# Mostly absent, so that each criterion is the only one at times, and its index the one that is walked.
asked_ids = st.sampled_from([None, None, None, "a", "b"])
queries = st.fixed_dictionaries(
    {
        "flow": asked_ids,
        "run": asked_ids,
        "node": asked_ids,
        "levels": st.none() | st.frozensets(st.sampled_from(LEVELS)),
        "search": st.sampled_from([None, None, "p", "NA", "äp"]),
        "from_ms": st.none() | st.integers(-5, 300),
        "to_ms": st.none() | st.integers(-5, 300),
        "limit": st.integers(1, 7),
    }
)


def matches(record: dict[str, Any], at: int, query: dict[str, Any]) -> bool:
    by_id = all(query[kind] in (None, record.get(f"{kind}Id")) for kind in ("flow", "run", "node"))
    by_level = query["levels"] is None or record["logLevel"] in query["levels"]
    by_text = query["search"] is None or query["search"].casefold() in record["message"].casefold()
    after = query["from_ms"] is None or at >= query["from_ms"]
    return by_id and by_level and by_text and after and (query["to_ms"] is None or at <= query["to_ms"])


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(appends | appends | clears, max_size=12),
    st.lists(queries, min_size=1, max_size=5),
    st.sampled_from([2, 3, 1001]),
    st.sampled_from([15, 1000]),
    st.sampled_from([1, 100]),
)
def test_pages_are_what_a_list_would_give(
    make: Any, steps: list[Any], asked: list[Any], walk: int, cap: int, slice_: int
) -> None:
    world = make(max_records=cap)
    assert "local SLICE, SWEEP, SLACK = 100, 100," in mintflow_realtime.stores.logs.store._APPEND
    with pytest.MonkeyPatch.context() as patch:
        fragment = mintflow_realtime.stores.logs.store._APPEND.replace("SLACK = 100, 100,", f"SLACK = {slice_}, 1000,")
        patch.setattr(mintflow_realtime.stores.logs.store, "_APPEND", fragment)
        compare(world, steps, asked, walk, cap)


def compare(world: World, steps: list[Any], asked: list[Any], walk: int, cap: int) -> None:
    base = world.now
    last, model = -1_000_000, []
    for step in steps:
        if step[0] in ("flow", "run", "log"):
            kind, value, purged = step
            if kind == "log":
                kept = model[1:] if value == "a" else model
                log_id = model[0][1]["logId"] if value == "a" and model else "1-1"
                expected = len(model) - len(kept)
                assert world.clear(log_id=log_id) == expected
            else:
                kept = [(at, record) for at, record in model if record.get(f"{kind}Id") != value]
                assert world.clear(**{f"{kind}_id": value}) == len(model) - len(kept)
            model = kept
            if purged:
                world.store.purge("acme")
                world.check_exact()
            continue
        world.now += step[0]
        last = max(last, world.now - base)
        new = [log(m, level, flow_id=f, run_id=r, node_id=n) for f, r, n, level, m in step[1]]
        model += [(last, json.loads(text)) for text in world.append(*new)]
        model = model[-cap:]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("WALK", walk), ("SEARCH_SLICE", walk), ("SEARCH_RECORDS", 2 * walk)):
            patch.setattr(mintflow_realtime.stores.logs.store, name, value)
        for query in asked:
            expected_records = [record for at, record in model if matches(record, at, query)]
            assert everything(world, base, query) == expected_records
            assert scanned(world, base, query) == expected_records
            if expected_records:
                after = expected_records[len(expected_records) // 2]["logId"]
                rest = expected_records[len(expected_records) // 2 + 1 :]
                assert scanned(world, base, query, after) == rest
    world.store.purge("acme")
    world.check_exact()


def everything(world: World, base: int, query: dict[str, Any]) -> list[dict[str, Any]]:
    """Read page after page to the end; check that only a search gives short pages."""
    times = {name: None if query[name] is None else base + query[name] for name in ("from_ms", "to_ms")}
    found: list[dict[str, Any]] = []
    cursor = None
    for _ in range(500):
        page = world.store.page("acme", LogQuery(**{**query, **times}, before=cursor))
        found = [json.loads(record) for record in page.records] + found
        cursor = page.next_cursor
        if cursor is None:
            return found
        assert len(page.records) == query["limit"] or query["search"] is not None
    raise AssertionError("The pages have no end")


def scanned(world: World, base: int, query: dict[str, Any], after: str | None = None) -> list[dict[str, Any]]:
    times = {name: None if query[name] is None else base + query[name] for name in ("from_ms", "to_ms")}
    slices = world.store.scan("acme", LogQuery(**{**query, **times}), after)
    return [json.loads(record) for records in slices for record in records]


def test_a_scan_ends_with_what_was_there_when_it_began(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mintflow_realtime.stores.logs.store, "SCAN_RECORDS", 2)
    world.append(*[log(str(number)) for number in range(5)])
    found = []
    for records in world.store.scan("acme", LogQuery()):
        found += [json.loads(record)["message"] for record in records]
        world.append(log("later"))
    assert found == ["0", "1", "2", "3", "4"]


def test_a_scan_of_large_records_is_in_small_slices(world: World) -> None:
    world.append(*[log("x" * 60_000) for _ in range(7)])
    slices = [len(records) for records in world.store.scan("acme", LogQuery())]
    assert slices == [2, 2, 2, 1]
    searched = [len(records) for records in world.store.scan("acme", LogQuery(search="xx"))]
    assert sum(searched) == 7 and max(searched) <= 2


def test_a_scan_of_what_was_lost_meanwhile_never_looks_whole(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mintflow_realtime.stores.logs.store, "SCAN_RECORDS", 2)
    world.append(*[log(str(number)) for number in range(5)])
    slices = world.store.scan("acme", LogQuery())
    assert len(next(slices)) == 2
    world.client.command("FLUSHDB")
    world.append(log("anew"))
    with pytest.raises(Unavailable):
        next(slices)


# Caps


def test_the_oldest_go_at_the_cap_with_their_indexes(make: Any) -> None:
    world = make(max_records=100)
    for start in range(0, 500, 50):
        world.append(
            *(log(str(i), LEVELS[i % 4], flow_id=f"f{i // 100}", node_id=f"n{i % 7}") for i in range(start, start + 50))
        )
    world.append(log("500", run_id="r"))
    assert world.messages(limit=1000) == [str(i) for i in range(401, 501)]
    world.check_exact()
    assert not {"flow:f0", "flow:f3"} & set(world.keys())


def test_a_batch_larger_than_the_cap(make: Any) -> None:
    world = make(max_records=10)
    world.append(*(log(str(i), flow_id=str(i)) for i in range(2500)))
    for i in range(2500, 2515):
        world.append(log(str(i)))
    assert world.messages() == [str(i) for i in range(2505, 2515)]
    world.check_exact()


def test_what_a_large_batch_pushes_out_is_hidden_at_once_and_purged(make: Any) -> None:
    world = make(max_records=100)
    first = world.append(*(log(str(i), flow_id=f"f{i % 2}", run_id="r") for i in range(1000)))
    for criteria in ({}, {"run": "r"}, {"levels": frozenset({"info", "warn"})}, {"from_ms": 0}):
        assert world.messages(limit=1000, **criteria) == [str(i) for i in range(900, 1000)]
    assert world.client.command("HLEN", KEYS.of("acme", "logs", "rec")) == 900
    assert world.clear(log_id=json.loads(first[800])["logId"]) == 0
    assert [world.clear(flow_id="f0"), world.clear(run_id="r")] == [50, 50]
    world.append(log("new"))
    assert world.messages() == ["new"]
    world.store.purge("acme")
    world.check_exact()


def test_hidden_records_are_bounded_without_a_purge(make: Any) -> None:
    world = make(max_records=100)
    for _ in range(20):
        world.append(*(log() for _ in range(1000)))
    assert 9_000 <= world.client.command("HLEN", KEYS.of("acme", "logs", "rec")) <= 11_100
    world.store.purge("acme")
    assert len(world.texts(limit=1000)) == 100
    world.check_exact()


def test_the_oldest_go_at_the_cap_of_bytes(make: Any) -> None:
    world = make(max_bytes=200_000)
    for i in range(30):
        world.append(log(f"{i:02}" + "x" * 30_000))
    kept = [message[:2] for message in world.messages()]
    assert kept == [f"{i:02}" for i in range(24, 30)]
    world.check_exact()


def test_records_past_their_age_are_not_shown_and_go(make: Any) -> None:
    world = make(ttl_seconds=60)
    world.append(log("old", flow_id="f"))
    world.now += 59_000
    world.append(log("young", flow_id="f"))
    world.now += 2_000
    assert world.messages() == world.messages(flow="f") == ["young"]
    world.append(log("new"))
    assert world.messages() == ["young", "new"]
    world.check_exact()


def test_everything_expires(make: Any) -> None:
    world = make(ttl_seconds=1)
    world.now = now_ms()
    world.append(log(flow_id="f", run_id="r", node_id="n"))
    world.clear(flow_id="f")
    deadline = time.monotonic() + 10
    while world.keys() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert world.keys() == {}


def test_caps_that_make_no_sense(client: RedisClient) -> None:
    with pytest.raises(ValueError, match="max_records"):
        LogStore(client, KEYS, max_records=0)


# Clearing


def test_clear_hides_at_once_and_purge_removes(world: World) -> None:
    world.append(*(log(str(i), flow_id=f"f{i % 2}", run_id="r", node_id="n") for i in range(1000)))
    assert world.clear(flow_id="f0") == 500
    odd = [str(i) for i in range(1, 1000, 2)]
    for criteria in ({}, {"run": "r"}, {"node": "n"}, {"levels": frozenset({"info"})}):
        assert world.messages(limit=1000, **criteria) == odd
    assert world.messages(flow="f0") == []
    assert "cleared" in world.keys()
    world.append(log("again", flow_id="f0"))
    assert world.messages(flow="f0") == ["again"]
    world.store.purge("acme")
    world.check_exact()
    assert world.messages(limit=1000) == [*odd, "again"]


def test_a_crash_before_the_purge_leaves_nothing(world: World) -> None:
    world.append(*(log(str(i), flow_id="f", run_id=f"r{i % 3}") for i in range(900)), log("other"))
    assert world.clear(run_id="r1") == 300
    assert world.clear(flow_id="f") == 600
    assert world.clear(flow_id="f") == 0
    # An append goes through 100 of the first clear's 300 and the second's 900.
    for i in range(12):
        assert "trash" in world.keys()
        world.append(log(str(i)))
    assert world.messages() == ["other", *map(str, range(12))]
    world.check_exact()


def test_hidden_records_never_push_out_live_ones(make: Any) -> None:
    world = make(max_records=1000)
    world.append(*(log(str(i)) for i in range(100)), *(log("x", flow_id="f") for _ in range(900)))
    world.clear(flow_id="f")
    for _ in range(9):
        world.append(*(log("new") for _ in range(100)))
    assert world.messages(limit=1000) == [str(i) for i in range(100)] + ["new"] * 900
    world.check_exact()


def test_nor_do_they_where_one_was_cleared_twice(make: Any) -> None:
    world = make(max_records=1000)
    world.append(
        *(log(str(i)) for i in range(100)), *(log("x", flow_id="f", run_id=f"r{i // 450}") for i in range(900))
    )
    assert world.clear(run_id="r0") == 450 and world.clear(flow_id="f") == 450
    # The second clear's first 450 are the first one's, so that going through them removes nothing.
    for count in (450, 250):
        world.append(*(log("new") for _ in range(count)))
        assert "trash" in world.keys()
    assert world.messages(limit=1000) == [str(i) for i in range(100)] + ["new"] * 700
    world.store.purge("acme")
    world.check_exact()


def test_a_clear_that_cannot_be_counted_is_refused_unwritten(world: World) -> None:
    for _ in range(6):
        world.append(*(log(flow_id="f", run_id="r") for _ in range(1000)))
    assert world.clear(run_id="r") == 6000
    with pytest.raises(Exception, match="REFUSED unavailable"):
        world.clear(flow_id="f")
    world.store.purge("acme")
    assert world.clear(flow_id="f") == 0
    world.check_exact()


def test_clear_of_one_record(world: World) -> None:
    texts = world.append(log("a", flow_id="f"), log("b", flow_id="f"))
    log_id = json.loads(texts[0])["logId"]
    assert [world.clear(log_id=log_id), world.clear(log_id=log_id)] == [1, 0]
    assert world.messages(flow="f") == ["b"]
    world.check_exact()
    world.clear(flow_id="f")
    assert world.clear(log_id=json.loads(texts[1])["logId"]) == 0
    assert world.clear(run_id="never") == 0


def test_clear_needs_one_criterion(world: World) -> None:
    with pytest.raises(ValueError, match="one of"):
        world.store.clear_change("acme", flow_id="f", run_id="r")


# Messages


def convert(payload: dict[str, Any], kind: type) -> Any:
    return msgspec.convert(payload, kind)


def test_a_filter_is_read() -> None:
    payload = {"minLevel": "info", "logLevel": ["debug", "warn"], "from": "2026-01-31T09:15:30.0005+01:00"}
    query = LogQuery.of(convert({**payload, "to": "20260131T081531Z", "limit": 5, "nodeId": "n"}, FilterLogs))
    assert query.levels == {"warn"}
    assert (query.from_ms, query.to_ms) == (1_769_847_330_001, 1_769_847_331_000)


def test_levels_of_a_subscription_and_a_history() -> None:
    assert LogQuery.of(convert({"minLevel": "warn"}, SubscribeLogs)).levels == {"warn", "error"}
    assert LogQuery.of(convert({"minLevel": "debug"}, SubscribeLogs)).levels is None
    assert LogQuery.of(convert({"flowId": "f"}, LogHistory)) == LogQuery(flow="f", limit=200)


@pytest.mark.parametrize(
    ("payload", "path"),
    [
        ({"from": "yesterday"}, "$.from"),
        ({"to": "2026-01-31T08:15:30"}, "$.to"),
        ({"from": "2026-02-01T00:00Z", "to": "2026-01-01T00:00Z"}, "$.from"),
        ({"before": "1-2x"}, "$.before"),
        ({"before": "١-١"}, "$.before"),
        ({"before": "1-2\n"}, "$.before"),
    ],
)
def test_a_strange_filter_is_refused(payload: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidPayload) as caught:
        LogQuery.of(convert(payload, FilterLogs))
    assert caught.value.details["path"] == path


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        ({"limit": 0}, LogHistory),
        ({"limit": 1001}, FilterLogs),
        ({"search": ""}, FilterLogs),
        ({"search": "x" * 1001}, FilterLogs),
        ({"logLevel": "fatal"}, FilterLogs),
        ({"logLevel": []}, FilterLogs),
        ({"flowId": "a\n"}, LogHistory),
        ({"flow_id": "a"}, LogHistory),
        ({"history": 1001}, SubscribeLogs),
        ({}, ClearLogs),
        ({"flowId": "f", "logId": "l"}, ClearLogs),
        ({"logLevel": "info"}, NewLog),
        ({"logLevel": "info", "message": "m", "metadata": []}, NewLog),
        ({"logLevel": "info", "message": "m", "level": "info"}, NewLog),
        ({"logLevel": "info", "message": "m", "timestamp": "now"}, NewLog),
        ({"message": "m"}, NewLog),
    ],
)
def test_a_payload_out_of_bounds_is_refused(payload: dict[str, Any], kind: type) -> None:
    with pytest.raises(msgspec.ValidationError):
        convert(payload, kind)


def test_the_answer_of_a_clear_names_its_criterion() -> None:
    assert json.loads(msgspec.json.encode(Cleared(run_id="r", deleted=3))) == {
        "success": True,
        "runId": "r",
        "deleted": 3,
    }
