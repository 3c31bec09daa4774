"""Rows of Socket.IO v5 (and of DESIGN 5 and 10 for what it leaves open): packets, on both transports.

A row's packets are what Engine.IO packets carry, "4" included; bytes are attachments. Sections are headings of
socket.io-protocol v5; "reference" is what Node's server does where the document is silent.
"""

import json
from dataclasses import dataclass
from itertools import product
from typing import Any

from tests.conformance.outcomes import (
    Deep,
    Echoed,
    Lives,
    MayEnd,
    OneError,
    Outcome,
    Refused,
    Reply,
    Row,
    closes,
    lives,
    one_of,
    unordered,
)
from tests.conformance.rfc6455 import MAX
from tests.conformance.wire import message

CONNECTING, DATA, ACK = "Connection to a namespace", "Sending and receiving data", "Acknowledgement"
FORMAT, LEAVING, RFC8259 = "Packet encoding", "Disconnection from a namespace", "RFC 8259"
ATTACHMENTS = "Packet encoding, attachments"
ENDS = closes()
LEFT_OPEN = one_of(lives(), closes())


@dataclass(frozen=True)
class Packets:
    """Packets of a client that is in `namespaces`, and what must come of them."""

    section: str
    name: str
    packets: tuple[str | bytes, ...]
    outcome: Outcome
    namespaces: tuple[str, ...] = ("/",)

    def __str__(self) -> str:
        return f"Socket.IO v5 {self.section}: {self.name}"

    @property
    def await_replies(self) -> int:
        connects = any(isinstance(one, str) and one.startswith("40") for one in self.packets)
        if isinstance(self.outcome, OneError):
            return 1
        return len(self.outcome.replies) if connects and isinstance(self.outcome, Lives) else 0

    def row(self) -> Row:
        """Return the row that sends each packet in a WebSocket message."""
        segment = b"".join(map(message, self.packets))
        section = "Socket.IO v5 " + self.section
        return Row(section, self.name, (segment,), self.outcome, self.namespaces, self.await_replies)


class Packs:
    def __init__(self) -> None:
        self.all: list[Packets] = []

    def add(
        self, section: str, name: str, packets: Any, outcome: Outcome, *namespaces: str, alone: bool = False
    ) -> None:
        """Add a case on a connection that is in `namespaces`, by default in `/`; `alone`: in none."""
        parts = (packets,) if isinstance(packets, (str, bytes)) else tuple(packets)
        self.all.append(Packets(section, name, parts, outcome, () if alone else namespaces or ("/",)))


def packets() -> list[Packets]:
    packs = Packs()
    for build in (connecting, before_connect, events, acks, attachments, placeholders, json_text, leaving, malformed):
        build(packs)
    names = [str(one) for one in packs.all]
    assert len(set(names)) == len(names), {name for name in names if names.count(name) > 1}
    return packs.all


def rows() -> list[Row]:
    return [one.row() for one in packets()]


def connecting(packs: Packs) -> None:
    for namespace, payload in product(("/", "/chat", "/auth"), ("", "{}", '{"token":"123"}', '{"a":[1,{"b":null}]}')):
        prefix = "" if namespace == "/" else namespace + ","
        replies: list[Reply] = [f'40{prefix}{{"sid":"x"}}']
        if namespace == "/auth":
            replies.append(f'42/auth,["auth",{payload or "{}"}]')
        others = ("/",) if namespace != "/" else ("/chat",)
        packs.add(
            CONNECTING, f"{namespace} with {payload or 'no payload'}", f"40{prefix}{payload}", lives(*replies), *others
        )
    packs.add(CONNECTING, "a namespace without its comma", "40/chat", lives('40/chat,{"sid":"x"}'))
    packs.add(
        CONNECTING,
        "both in one",
        ["40/chat,", "40/auth,"],
        unordered('40/chat,{"sid":"x"}', '40/auth,{"sid":"x"}', '42/auth,["auth",{}]'),
    )
    invalid = '{"message":"Invalid namespace"}'
    for namespace in ("/random", "/CHAT", "/chat/", "/chat2", "//", "/ä", "/" + "n" * 200):
        for form in (f"40{namespace}", f"40{namespace},", f'40{namespace},{{"token":"1"}}'):
            packs.add(CONNECTING, f"unknown, {len(form)} letters: {form[:30]}", form, lives(f"44{namespace},{invalid}"))
    packs.add(
        CONNECTING,
        "a namespace of 5,000 letters",
        "40/" + "n" * 5000,
        one_of(lives(f"44/{'n' * 5000},{invalid}"), closes()),
    )
    packs.add(CONNECTING, "refused", "40/refusing,", OneError("/refusing"))
    # v5 has no query in a namespace, v4 had one, and clients of v4 can't come here.
    packs.add(
        CONNECTING,
        "with a query string",
        "40/chat?x=y,",
        one_of(lives('40/chat,{"sid":"x"}'), lives(f"44/chat?x=y,{invalid}")),
    )
    for namespace in ("", "/chat,"):
        # The probe that follows is answered in `/`.
        where = ("/", "/chat") if namespace else ("/",)
        # An `auth` function of the stock client that calls back twice sends two; the reference ends the connection.
        packs.add(CONNECTING + ", left open", f"twice: {namespace or '/'}", f"40{namespace}", LEFT_OPEN, *where)
        other = f'40{namespace}{{"other":1}}'
        packs.add(CONNECTING + ", reference", f"twice, unlike: {namespace or '/'}", other, ENDS, *where)
    for payload in ("[]", "[1]", '"text"', "null", "true", "1.5", "-1"):
        # "Object | Array", says the document; the reference takes objects alone, other servers anything.
        outcome = one_of(lives('40/chat,{"sid":"x"}'), OneError("/chat"), closes())
        packs.add(CONNECTING, f"payload {payload}", f"40/chat,{payload}", outcome)
    for payload in ("{", "{]", '{"a"}', "{'a':1}", '{"a":1', '{"a":1}}', "nothing", "{}x", "[" * 5000):
        packs.add(CONNECTING, f"payload that is no JSON: {payload[:20]}", f"40/chat,{payload}", ENDS)


def before_connect(packs: Packs) -> None:
    """Whatever comes first and is not CONNECT ends the connection, at once."""
    firsts = {
        "an event": '42["echo"]',
        "an event with an id": '421["echo"]',
        "an event elsewhere": '42/chat,["echo"]',
        "an event to nowhere": '42/random,["echo"]',
        "an ack": "431[]",
        "DISCONNECT": "41",
        "DISCONNECT elsewhere": "41/chat,",
        "CONNECT_ERROR": '44{"message":"x"}',
        "a binary event": ('451-["echo",{"_placeholder":true,"num":0}]', b"x"),
        "a binary ack": ('461-1[{"_placeholder":true,"num":0}]', b"x"),
        "an attachment": b"x",
        "an empty attachment": b"",
        "garbage": "4abc",
        "type 7": "47",
        "nothing": "4",
    }
    for name, packet in firsts.items():
        packs.add(CONNECTING, f"first comes {name}", packet, ENDS, alone=True)
        packs.add(
            CONNECTING,
            f"first comes {name}, and then CONNECT",
            [*([packet] if isinstance(packet, (str, bytes)) else packet), "40"],
            ENDS,
            alone=True,
        )
    for name, packet in firsts.items():
        if name in ("an event elsewhere", "an event to nowhere", "DISCONNECT elsewhere", "CONNECT_ERROR"):
            # The reference ends the connection; the document has no word on it, and a kick may cross an event.
            packs.add(CONNECTING + ", left open", f"{name}, from one who is in / alone", packet, LEFT_OPEN)


def events(packs: Packs) -> None:
    for content in (
        '"x"',
        "1",
        "1.5",
        "-0.5",
        "1e3",
        "true",
        "null",
        "[]",
        "{}",
        '{"a":{"b":[1,{"c":[]}]}}',
        '""',
        '"grüße €💜"',
        r'"\u20ac\ud83d\udc9c\n\t\"\\\/"',
        r'"\u0000"',
        "1,2,3",
        '"a",{"b":1},[2]',
        "1e308",
    ):
        for prefix, where in (("", "/"), ("/chat,", "/chat")):
            packs.add(
                DATA,
                f"{content} to {where}, acked",
                f'42{prefix}5["echo",{content}]',
                lives(f"43{prefix}5[{content}]"),
                "/",
                *[where][where == "/" :],
            )
            packs.add(
                DATA,
                f"{content} to {where}",
                f'42{prefix}["message",{content}]',
                lives(f'42{prefix}["message-back",{content}]'),
                "/",
                *[where][where == "/" :],
            )
    packs.add(DATA, "no argument", '425["echo"]', lives("435[]"))
    packs.add(DATA, "an unknown event", '42["no such event"]', lives())
    packs.add(DATA, "an empty name", '42[""]', lives())
    must = {
        "no payload": "",
        "an empty array": "[]",
        "an object": "{}",
        "an object of an event": '{"0":"echo"}',
        "a string": '"echo"',
        "null": "null",
        "true": "true",
        "a fraction": "0.5",
        "half an array": "[",
        "an array without its end": '["echo"',
        "an array of two": '["echo"]["echo"]',
        "an array and more": '["echo"]x',
        "no array": "echo",
        "a comma": '["echo",]',
        "single quotes": "['echo']",
    }
    for (name, payload), (prefix, where), number in product(must.items(), (("", "/"), ("/chat,", "/chat")), ("", "7")):
        if number and payload[:1].isdigit():
            continue
        packs.add(
            DATA,
            f"payload is {name}, to {where}{' with an id' if number else ''}",
            f"42{prefix}{number}{payload}",
            ENDS,
            "/",
            *[where][where == "/" :],
        )
    for name in ("null", "true", "{}", "[]", '["echo"]', '{"a":1}'):
        packs.add(DATA + ", reference", f"a name that is {name}", f"42[{name}]", ENDS)
        packs.add(DATA + ", reference", f"a name that is {name}, with an id", f'425[{name},"x"]', ENDS)
    for name in ("0", "5", "-1", "1.5"):
        packs.add(DATA + ", left open", f"a name that is {name}", f"42[{name}]", LEFT_OPEN)
    for name in ("connect", "disconnect"):
        # DESIGN 4: refused, and answered; the reference ends the connection.
        outcome = one_of(Refused(5), closes())
        packs.add(DATA + ", DESIGN 4", f"the reserved name {name}, acked", f'425["{name}","x"]', outcome)
        packs.add(
            DATA + ", DESIGN 4", f"the reserved name {name}", f'42["{name}","x"]', one_of(Refused(None), closes())
        )
    for name in (
        "connect_error",
        "disconnecting",
        "newListener",
        "removeListener",
        "__disconnect_final",
        "__init__",
        "*",
        "trigger_event",
        "emit",
    ):
        packs.add(DATA + ", left open", f"the name {name}", f'42["{name}"]', one_of(lives(), Refused(None), closes()))


def acks(packs: Packs) -> None:
    for number in ("0", "1", "9", "10", "123456", "2147483647", "2147483648", "4294967296", "9007199254740991"):
        packs.add(ACK, f"id {number}", f'42{number}["echo","x"]', lives(f'43{number}["x"]'))
        packs.add(
            ACK, f"id {number} in /chat", f'42/chat,{number}["echo","x"]', lives(f'43/chat,{number}["x"]'), "/", "/chat"
        )
    for number in ("9007199254740993", "9" * 19, "9" * 20, "9" * 21, "9" * 99, "9" * 101, "9" * 5000):
        # An integer, says the document, and no bound. Either answered by the same id, or not served at all.
        packs.add(
            ACK, f"id of {len(number)} digits", f'42{number}["echo","x"]', one_of(lives(f'43{number}["x"]'), closes())
        )
    packs.add(ACK, "leading zeros", '42007["echo"]', one_of(lives("437[]"), closes()))
    for number in ("-1", "+1", "1.5", "x", "1x", "0x10", "٣", "²", "１", "Ⅷ", "1,", "1_000", "-", '"1"', "1e2"):
        packs.add(ACK, f"id {number}", f'42{number}["echo","x"]', ENDS)
    packs.add(
        ACK,
        "a hundred ids",
        [f'42{nth}["echo",{nth}]' for nth in range(100)][:30],
        unordered(*[f"43{nth}[{nth}]" for nth in range(30)]),
    )
    packs.add(ACK, "one id twice", ['425["echo","a"]', '425["echo","b"]'], unordered('435["a"]', '435["b"]'))
    for name, packet in {
        "to an id that nobody asked for": '4399["x"]',
        "to a large id": "43" + "9" * 18 + "[]",
        "empty, to an unknown id": "431[]",
    }.items():
        packs.add(ACK, "an ack " + name, packet, lives())
    for payload in ("{}", '"x"', "null", "true", "[", "x"):
        packs.add(ACK, f"an ack of {payload}", f"435{payload}", ENDS)
    packs.add(ACK + ", left open", "an ack of nothing", "435", LEFT_OPEN)
    packs.add(ACK + ", left open", "an ack without an id", '43["x"]', LEFT_OPEN)
    for name, packet in {"elsewhere": "43/chat,1[]", "to nowhere": "43/random,1[]"}.items():
        packs.add(ACK + ", left open", f"an ack {name}", packet, LEFT_OPEN)


def hole(number: Any) -> str:
    return '{"_placeholder":true,"num":' + json.dumps(number) + "}"


def blobs(count: int, size: int = 3) -> list[bytes]:
    return [bytes([nth]) * size for nth in range(count)]


def attachments(packs: Packs) -> None:
    for count in range(1, 11):
        holes = ",".join(hole(nth) for nth in range(count))
        for prefix, where in (("", "/"), ("/chat,", "/chat")):
            more = ("/", *[where][where == "/" :])
            replies: list[Reply] = [f"46{count}-{prefix}7[{holes}]", *blobs(count)]
            packs.add(
                ATTACHMENTS,
                f"{count} to {where}, acked",
                [f'45{count}-{prefix}7["echo",{holes}]', *blobs(count)],
                lives(*replies),
                *more,
            )
            replies = [f'45{count}-{prefix}["message-back",{holes}]', *blobs(count)]
            packs.add(
                ATTACHMENTS,
                f"{count} to {where}",
                [f'45{count}-{prefix}["message",{holes}]', *blobs(count)],
                lives(*replies),
                *more,
            )
        if count > 1:
            turned = ",".join(hole(nth) for nth in reversed(range(count)))
            replies = [f"46{count}-7[{holes}]", *reversed(blobs(count))]
            packs.add(
                ATTACHMENTS,
                f"{count} placeholders in another order",
                [f'45{count}-7["echo",{turned}]', *blobs(count)],
                lives(*replies),
            )
            packs.add(
                ATTACHMENTS,
                f"{count}, and a text after {count - 1}",
                [f'45{count}-7["echo",{holes}]', *blobs(count - 1), '428["echo"]'],
                ENDS,
            )
        packs.add(
            ATTACHMENTS,
            f"{count}, and one more",
            [f'45{count}-["message",{holes}]', *blobs(count + 1)],
            MayEnd(f'45{count}-["message-back",{holes}]', *blobs(count)),
        )
        packs.add(ATTACHMENTS, f"a text instead of {count}", [f'45{count}-7["echo",{holes}]', '428["echo"]'], ENDS)
        packs.add(ATTACHMENTS, f"CONNECT instead of {count}", [f'45{count}-7["echo",{holes}]', "40/chat,"], ENDS)
        packs.add(ATTACHMENTS, f"another binary event instead of {count}", [f'45{count}-7["echo",{holes}]'] * 2, ENDS)
        packs.add(
            ATTACHMENTS, f"{count} in an ack to an unknown id", [f"46{count}-99[{holes}]", *blobs(count)], lives()
        )
        heartbeat = [f'45{count}-7["echo",{holes}]', *[one for blob in blobs(count) for one in ("3", blob)]]
        packs.add(ATTACHMENTS, f"pongs between {count}", heartbeat, lives(f"46{count}-7[{holes}]", *blobs(count)))
    for count in (11, 12, 100, 1000, 999999999, 9999999999, 99999999999, 10**30):
        # DESIGN 10, STACK 13: at most 10, as in the reference.
        packs.add(ATTACHMENTS + ", DESIGN", f"{count} announced", f'45{count}-["echo",{hole(0)}]', ENDS)
        packs.add(ATTACHMENTS + ", DESIGN", f"{count} announced in an ack", f"46{count}-1[{hole(0)}]", ENDS)
    for size in (0, 1, 125, 126, 65535, 65536, MAX):
        blob = b"\xff" * size
        packs.add(
            ATTACHMENTS, f"one of {size} bytes", [f'451-7["echo",{hole(0)}]', blob], lives(f"461-7[{hole(0)}]", blob)
        )
    most = MAX * 6 // 10
    packs.add(
        ATTACHMENTS + ", DESIGN",
        "two that are over the limit together",
        [f'452-7["echo",{hole(0)},{hole(1)}]', b"x" * most, b"x" * most],
        ENDS,
    )
    packs.add(ATTACHMENTS, "one that nobody asked for", b"x", ENDS)
    packs.add(ATTACHMENTS, "an empty one that nobody asked for", b"", ENDS)
    packs.add(ATTACHMENTS, "one after a text event", ['42["message","a"]', b"x"], MayEnd('42["message-back","a"]'))
    for count in ("", "-", "x-", "1", "-1-", "1.5-", "0x1-", "1e0-", " 1-", "+1-", "٣-", "²-"):
        # Among them what a lenient reader takes for an event without attachments; never is one kept waiting.
        packs.add(
            ATTACHMENTS,
            f"the number is {count or 'missing'}",
            f'45{count}["message",{hole(0)}]',
            one_of(ENDS, Echoed()),
        )
    packs.add(
        ATTACHMENTS + ", left open",
        "none announced, none used",
        '450-7["echo","a"]',
        one_of(lives('437["a"]'), closes()),
    )
    packs.add(
        ATTACHMENTS + ", left open",
        "leading zeros",
        [f'4501-7["echo",{hole(0)}]', b"x"],
        one_of(lives(f"461-7[{hole(0)}]", b"x"), closes()),
    )
    packs.add(ATTACHMENTS, "no event: an object", ['451-{"a":' + hole(0) + "}", b"x"], ENDS)
    packs.add(ATTACHMENTS, "no event: nothing", ["451-", b"x"], ENDS)
    packs.add(ATTACHMENTS, "no event: an empty array", ["451-[]", b"x"], ENDS)
    packs.add(ATTACHMENTS, "the name is an attachment", [f"451-[{hole(0)}]", b"x"], ENDS)
    packs.add(ATTACHMENTS, "an ack that is an object", ["461-1{}", b"x"], ENDS)


def placeholders(packs: Packs) -> None:
    bad = {
        "beyond": hole(1),
        "far beyond": hole(2**40),
        "negative": hole(-1),
        "a string": hole("0"),
        "a fraction": hole(0.5),
        "null": hole(None),
        "true": hole(True),
        "a list": hole([0]),
        "an object": hole({}),
        "missing": '{"_placeholder":true}',
    }
    for (name, placeholder), (where, form) in product(
        bad.items(), {"": "{}", "in a list": "[[{}]]", "in an object": '{{"a":{{"b":{}}}}}'}.items()
    ):
        packet = f'451-7["echo",{form.format(placeholder)}]'
        packs.add(ATTACHMENTS, f"a placeholder whose number is {name} {where}".strip(), [packet, b"x"], ENDS)
        packs.add(
            ATTACHMENTS,
            f"in an ack, a placeholder whose number is {name} {where}".strip(),
            ["461-99" + f"[{form.format(placeholder)}]", b"x"],
            one_of(ENDS, lives()),
        )
    twice = one_of(lives(f"462-7[{hole(0)},{hole(1)}]", b"x", b"x"), closes())
    packs.add(ATTACHMENTS + ", left open", "one placeholder twice", [f'451-7["echo",{hole(0)},{hole(0)}]', b"x"], twice)
    unused = one_of(lives(f"461-7[{hole(0)}]", b"x"), closes())
    packs.add(
        ATTACHMENTS + ", left open",
        "an attachment without a placeholder",
        [f'452-7["echo",{hole(0)}]', b"x", b"y"],
        unused,
    )
    packs.add(
        ATTACHMENTS + ", left open",
        "an attachment and no placeholder at all",
        ['451-7["echo","a"]', b"x"],
        one_of(lives('437["a"]'), closes()),
    )
    for value in ("false", "0", "null", '""', "1", '"true"'):
        content = '{"_placeholder":' + value + ',"num":0}'
        # A placeholder is one with true: anything else is an object of the user's, which is as it was.
        literal = one_of(lives(f"437[{content}]"), closes())
        packs.add(
            ATTACHMENTS + ", left open",
            f"_placeholder is {value}",
            [f'451-7["echo",{content}]', b"x"],
            one_of(literal, lives(f"461-7[{hole(0)}]", b"x")),
        )
    packs.add(
        ATTACHMENTS + ", left open",
        "a placeholder in an event without attachments",
        f'427["echo",{hole(0)}]',
        one_of(lives(f"437[{hole(0)}]"), closes()),
    )
    for depth in (1, 5, 20, 50):
        content = "[" * depth + hole(0) + "]" * depth
        packs.add(
            ATTACHMENTS,
            f"a placeholder {depth} lists deep",
            [f'451-7["echo",{content}]', b"x"],
            lives(f"461-7[{content}]", b"x"),
        )
        content = '{"a":' * depth + hole(0) + "}" * depth
        packs.add(
            ATTACHMENTS,
            f"a placeholder {depth} objects deep",
            [f'451-7["echo",{content}]', b"x"],
            lives(f"461-7[{content}]", b"x"),
        )


def json_text(packs: Packs) -> None:
    for depth in (1, 10, 50, 100):
        for content in ("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth):
            packs.add(DATA, f"depth {depth} of {content[0]}", f'427["echo",{content}]', lives(f"437[{content}]"))
    for depth in (500, 1000, 5000, 20000):
        for content in ("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth, "[" * depth, '[{"a":' * depth):
            if len(content) + 20 > MAX:
                continue
            whole = content.endswith(("]", "}"))
            outcome = one_of(Deep(), closes()) if whole else ENDS
            name = f"depth {depth} of {content[:2]}{'' if whole else ', cut short'}"
            packs.add(DATA, name, f'427["echo",{content}]' if whole else f'427["echo",{content}', outcome)
            packs.add(
                ATTACHMENTS,
                name + " with an attachment",
                [f'451-7["echo",{hole(0)},{content}' + ("]" if whole else ""), b"x"],
                outcome,
            )
    for constant in (
        "NaN",
        "Infinity",
        "-Infinity",
        "undefined",
        "True",
        "None",
        "'x'",
        "01",
        "1.",
        ".5",
        "+1",
        "0x1",
        "1e",
        '"\t"',
        '"\n"',
        '"\0"',
        r'"\x"',
        r'"\u12"',
        "// a",
        "/* a */1",
        "[1,]",
        '{"a":1,}',
        "{a:1}",
        "{1:1}",
    ):
        packs.add(RFC8259, f"{constant!r} is no JSON", f'427["echo",{constant}]', ENDS)
    for content, name in (
        (r'"\ud83d"', "half a surrogate pair"),
        (r'"\udc9c\ud83d"', "a turned surrogate pair"),
        (r'{"\ud83d":1}', "half a surrogate pair as a name"),
    ):
        # 8.2: "unpredictable". An answer that is well formed, or the end.
        packs.add(RFC8259, name, f'427["echo",{content}]', one_of(lives(f"437[{content}]"), Deep(), closes()))
    for space in (" ", "\n", "\t", "\r\n "):
        packs.add(RFC8259, f"{space!r} within", f'427[{space}"echo"{space},{space}"a"{space}]', lives('437["a"]'))
        packs.add(
            RFC8259 + ", left open", f"{space!r} after", f'427["echo","a"]{space}', one_of(lives('437["a"]'), closes())
        )
        packs.add(RFC8259 + ", left open", f"{space!r} before", f'42{space}["echo","a"]', LEFT_OPEN)
    for number in ("1" + "0" * 400, "9" * 5000, "1e400", "-1e400", "1e-400", "9007199254740993"):
        packs.add(
            RFC8259,
            f"a number of {len(number)} characters: {number[:6]}",
            f'427["echo",{number}]',
            one_of(Deep(), closes()),
        )
    packs.add(
        RFC8259, "a name twice", '427["echo",{"a":1,"a":2}]', one_of(lives('437[{"a":2}]'), lives('437[{"a":1}]'))
    )
    packs.add(RFC8259, "a long string", f'427["echo","{"ä" * 30000}"]', lives(f'437["{"ä" * 30000}"]'))
    packs.add(
        RFC8259,
        "many small values",
        "427" + json.dumps(["echo", *range(5000)]),
        lives("437" + json.dumps([*range(5000)])),
    )


def leaving(packs: Packs) -> None:
    packs.add(LEAVING, "one of two", "41/chat,", lives(), "/", "/chat")
    packs.add(LEAVING, "one of two, without the comma", "41/chat", lives(), "/", "/chat")
    packs.add(LEAVING, "and back", ["41/chat,", "40/chat,"], lives('40/chat,{"sid":"x"}'), "/", "/chat")
    packs.add(LEAVING, "and back to the only one", ["41", "40"], lives('40{"sid":"x"}'))
    packs.add(
        LEAVING, "twenty times", ["41/chat,", "40/chat,"] * 20, lives(*['40/chat,{"sid":"x"}'] * 20), "/", "/chat"
    )
    packs.add(LEAVING, "an event behind it", ["41/chat,", '42/chat,7["echo"]'], LEFT_OPEN, "/", "/chat")
    packs.add(LEAVING, "twice", ["41/chat,", "41/chat,"], LEFT_OPEN, "/", "/chat")
    for payload in ("{}", "[]", '"x"', "1"):
        packs.add(LEAVING + ", left open", f"with {payload}", f"41/chat,{payload}", LEFT_OPEN, "/", "/chat")
    packs.add(LEAVING, "the server's", '42/chat,["kick_me"]', lives("41/chat,"), "/", "/chat")
    packs.add(LEAVING + ", DESIGN", "the server's, from the last", '42["kick_me"]', closes(after=["41"]))


def malformed(packs: Packs) -> None:
    for kind in "789abcxyz:;/-+ \\äß٣²":
        for rest in ("", "[]", '["echo"]', '{"a":1}'):
            packs.add(FORMAT, f"type {kind!r} and {rest or 'nothing'}", f"4{kind}{rest}", ENDS)
    packs.add(FORMAT, "no type", "4", ENDS)
    for content in (
        "2",
        "2[",
        "2{",
        '2"',
        "2[[",
        "2[]]",
        "2/",
        "2/chat",
        "2/chat,",
        "2,",
        '2,["echo"]',
        "2/chat[]",
        '2["echo"',
        "2\0",
        '2[\0"echo"]',
        "2chat,[]",
        "2 ",
        '22["echo"',
    ):
        packs.add(FORMAT, f"{content!r}", "4" + content, ENDS, "/", "/chat")
