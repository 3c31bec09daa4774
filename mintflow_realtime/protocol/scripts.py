"""What stores and fanout, which never import each other, share to speak with Redis: scripts, changes, keys."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from mintflow_realtime.protocol.script_rights import guarded

Arg = str | bytes | int | float


@dataclass(frozen=True, slots=True)
class Script:
    """Lua text and the SHA1 by which Redis knows it; what is given is put behind what makes it refuse as a whole.

    What a `durable` one wrote must survive a failover where PUBLISH_WAIT_REPLICAS asks for that. One that is `told_run`
    gets the run_id of the server that runs it as the last of ARGV.
    """

    text: str
    durable: bool = False
    told_run: bool = False
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", guarded(self.text))
        object.__setattr__(self, "sha", hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest())

    @classmethod
    def beside(cls, module_file: str, name: str) -> "Script":
        """Read the script `name` from the folder of `module_file`."""
        return cls(Path(module_file).with_name(name).read_text())


@dataclass(frozen=True, slots=True)
class Change:
    """A store's part of a publish: both happen, or neither.

    `lua` defines `local function change(keys, args)`. It is called once for each event, before that event is
    numbered, with `args[i]` of the event and the same `keys` each time. It returns a list of texts, one for each
    gap between the pieces of the event's payload; or `nil, code, text, {more…}` to refuse. It refuses with the first
    event only, and only before its first write, since a script does not roll back.

    Where it never refuses and its events need not follow on each other, `sliced` lets many of them be published by
    several scripts; `closing` is what the last event of each script has behind its own arguments.
    """

    lua: str
    keys: Sequence[str]
    args: Sequence[Sequence[Arg]]
    closing: Sequence[Arg] = ()
    sliced: bool = False


class Runner(Protocol):
    """The door to Redis. Each method raises `Unavailable` within 2 s when Redis doesn't answer."""

    def run(self, script: Script, keys: Sequence[str], args: Sequence[Arg]) -> Any:
        """Run `script`, without a retry, and return its reply with texts as bytes."""
        ...

    def command(self, *args: Arg) -> Any:
        """Send one command, without a retry, and return its reply with texts as bytes."""
        ...


@dataclass(frozen=True, slots=True)
class Keys:
    """Builds every key and channel: `{prefix}:{tenant}:…`, the tenant as cluster hash tag.

    What belongs to no tenant lives under `{-}`, which no tenant can be called.
    """

    prefix: str

    def of(self, tenant: str, *parts: str) -> str:
        """Return the key of `tenant` for `parts`, such as `mf0:{acme}:log:/flows`."""
        return f"{self.prefix}:{{{tenant}}}:{':'.join(parts)}"

    def shared(self, *parts: str) -> str:
        """Return a key that belongs to no tenant."""
        return self.of("-", *parts)

    def of_node(self, node: str) -> str:
        """Return the channel of one node, on which it hears its health probe and what others tell or ask it."""
        # Called so in Redis since the first version.
        return self.shared("canary", node)
