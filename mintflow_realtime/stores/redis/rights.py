"""Which of the rights that a server needs its Redis user lacks: each command is tried once, on keys made for that."""

from collections.abc import Callable, Iterator
from hashlib import sha1
from typing import Any

import redis
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from mintflow_realtime.protocol.errors import Unavailable
from mintflow_realtime.protocol.scripts import Arg, Keys

# What the trying leaves behind where DEL is missing ends by itself.
LIFE_MS = 5000
_SCRIPT = "return 1"
_SHA = sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()

# What the scripts and this package's own calls use, by the type of key that it needs.
_TRIES: dict[str, tuple[tuple[Arg, ...], ...]] = {
    "text": (("SET", "1", "PX", LIFE_MS), ("GET",), ("MGET",), ("EXISTS",), ("PEXPIRE", LIFE_MS)),
    "hash": (
        ("HSET", "a", "1"),
        ("HGET", "a"),
        ("HMGET", "a"),
        ("HGETALL",),
        ("HLEN",),
        ("HEXISTS", "a"),
        ("HVALS",),
        ("HINCRBY", "b", 1),
        ("HDEL", "b"),
    ),
    "list": (
        ("RPUSH", "1"),
        ("LPUSH", "2"),
        ("LRANGE", 0, -1),
        ("LINDEX", 0),
        ("LTRIM", 0, 0),
        ("LPOP",),
    ),
    "sorted": (
        ("ZADD", 1, "a"),
        ("ZCARD",),
        ("ZCOUNT", 0, 2),
        ("ZSCORE", "a"),
        ("ZMSCORE", "a"),
        ("ZRANGE", 0, -1),
        ("ZRANGEBYSCORE", 0, 2),
        ("ZREVRANGEBYSCORE", 2, 0),
        ("ZREMRANGEBYRANK", 5, 6),
        ("ZREMRANGEBYSCORE", 5, 6),
        ("ZREM", "b"),
    ),
    "stream": (
        ("XADD", "*", "a", "1"),
        ("XLEN",),
        ("XRANGE", "-", "+"),
        ("XTRIM", "MAXLEN", 1),
        ("XAUTOCLAIM", "g", "c", 1, "0"),
        ("XPENDING", "g"),
        ("XACK", "g", "1-1"),
        ("XDEL", "1-1"),
    ),
}
_OTHERS = (
    "RENAME",
    "EVAL",
    "EVALSHA",
    "TIME",
    "INFO",
    "PUBLISH",
    "SUBSCRIBE",
    "UNSUBSCRIBE",
    "DEL",
    "PING",
    "SELECT",
    "WAIT",
    "XGROUP",
    "XREADGROUP",
)
COMMANDS = (*(str(one[0]) for tries in _TRIES.values() for one in tries), *_OTHERS)


def missing_rights(command: Callable[..., Any], keys: Keys) -> list[str]:
    """Return what the user may not do, as ACL SETUSER names it: `+xadd`, `~prefix:*`, `&prefix:*`.

    `command` sends one command. Raises what it raises but for errors that Redis answers.
    """
    missing: list[str] = []

    def allowed(name: str, *args: Arg) -> None:
        right = _refused(command, keys.prefix, name, args)
        if right and right not in missing:
            missing.append(right)

    # The same keys each time: what a process leaves that is killed between two of these, the next one removes. Two at
    # once disturb each other in what is answered, which nobody looks at.
    used = {kind: keys.shared("self-check", kind) for kind in (*_TRIES, "other")}
    for kind, tries in _TRIES.items():
        for name, *rest in tries:
            allowed(str(name), used[kind], *rest)
            _refused(command, keys.prefix, "PEXPIRE", (used[kind], LIFE_MS))
    allowed("RENAME", used["text"], used["other"])
    allowed("EVAL", _SCRIPT, 1, used["text"])
    allowed("EVALSHA", _SHA, 1, used["text"])
    allowed("XGROUP", "DESTROY", used["stream"], "g")
    allowed("XREADGROUP", "GROUP", "g", "c", "STREAMS", used["stream"], ">")
    allowed("TIME")
    allowed("INFO")
    # Nobody subscribes to it.
    allowed("PUBLISH", keys.shared("self-check"), "")
    for key in used.values():
        allowed("DEL", key)
    return missing


def _refused(command: Callable[..., Any], prefix: str, name: str, args: tuple[Arg, ...]) -> str:
    try:
        command(name, *args)
    except ResponseError:
        pass  # what it needs wasn't made, since that is not allowed
    except Unavailable as error:
        if isinstance(error.__cause__, NoPermissionError):
            text = str(error.__cause__)
            if "channel" in text:
                return f"&{prefix}:*"
            return f"~{prefix}:*" if " key" in text else f"+{name.lower()}"
        if not isinstance(error.__cause__, ResponseError):
            raise
    return ""


def missing_channels(client: "redis.Redis", keys: Keys, socket_channel: str) -> Iterator[str]:
    """Yield what the user lacks to listen to a node's channels. A connection of its own, closed at the end."""
    for channel, pattern in (
        (keys.shared("self-check"), f"{keys.prefix}:*"),
        (socket_channel, socket_channel),
    ):
        connection: Any = client.connection_pool.make_connection()
        try:
            connection.connect()
            connection.send_command("SUBSCRIBE", channel)
            connection.read_response()
        except NoPermissionError as error:
            yield f"&{pattern}" if "channel" in str(error) else "+subscribe"
        except RedisError:
            continue
        finally:
            connection.disconnect()


def setuser_line(user: str, prefix: str, socket_channel: str) -> str:
    """Return the line that gives a user all rights that a server needs, on no other keys and channels.

    6.2 refuses a pattern for who has them all, as its new users have all channels; so both begin anew.
    """
    commands = " ".join(f"+{name.lower()}" for name in sorted(set(COMMANDS)))
    return f"ACL SETUSER {user} resetkeys ~{prefix}:* resetchannels &{prefix}:* &{socket_channel} {commands}"
