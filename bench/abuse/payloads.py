"""JSON of a megabyte that is dear to read, each of another kind; and patches."""

import json

SIZE = 990_000


def payloads() -> dict[str, str]:
    """Return JSON values by what is dear about them."""
    return {
        "lists": _many("[]"),
        "objects": _many("{}"),
        "lists in lists": _many("[[[]]]"),
        "small objects": _many('{"a":1}'),
        "deep lists": _many("[" * 300 + "]" * 300),
        "too deep": "[" * (SIZE // 2) + "]" * (SIZE // 2),
        "many keys": "{" + ",".join(f'"{number:x}":0' for number in range(90_000)) + "}",
        "integers": _many("1"),
        "fractions": _many("1.5"),
        "largest numbers": _many("1.7976931348623157e308"),
        "smallest numbers": _many("5e-324"),
        "one long number": "1" * SIZE,
        "half surrogates": '"' + "\\ud800" * (SIZE // 6) + '"',
        "escapes, half a surrogate": '"' + "\\n" * (SIZE // 2 - 10) + '\\ud800"',
        "short texts": _many('"a"'),
        "one long text": '"' + "x" * SIZE + '"',
    }


def _many(element: str) -> str:
    return "[" + ",".join([element] * (SIZE // (len(element) + 1))) + "]"


def patches() -> dict[str, tuple[str, str]]:
    """Return states (JSON text) and patches by what is dear about them."""
    first = json.dumps([{"op": "add", "path": "/l/0", "value": 1}] * 1000)
    long = '{"l":' + _many("1") + "}"
    return {
        "1,000 insertions before 490,000": (long, first),
        "1,000 removals": (long, json.dumps([{"op": "remove", "path": "/l/0"}] * 1000)),
        "1,000 moves": (long, json.dumps([{"op": "move", "from": "/l/0", "path": "/l/-"}] * 1000)),
        "copies": (
            '{"l":[' + "[]," * (SIZE // 20) + "[]]}",
            json.dumps([{"op": "copy", "from": "/l", "path": f"/{n}"} for n in range(9)]),
        ),
        "a test of all": (long, json.dumps([{"op": "test", "path": "/l", "value": [1] * 300_000}]).replace(" ", "")),
        "a wrong place": (long, json.dumps([{"op": "remove", "path": "/l/x"}])),
    }
