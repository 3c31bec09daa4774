"""What stands before a script's own text, so that Redis refuses all of it or nothing: a script does not roll back.

A right that is missing in the middle would leave what was written before. So each command of the script is asked for
first: from Redis 7.0 on by a question, some 0.15 µs each, in 6.2 by giving it in a form that changes nothing.
"""

import re

# A command stands in the text as the first argument of `redis.call`, or of a function of ours that passes it on.
_command = re.compile(r"\(\s*'([A-Z]+)'")

# For 6.2: what follows a key that doesn't exist, so that the command does nothing. Redis looks at rights, memory and
# role before it looks at arguments, so some are given wrong ones.
_ON_NOTHING = {
    "DEL": "",
    "EXISTS": "",
    "GET": "",
    "HDEL": "'a'",
    "HEXISTS": "'a'",
    "HGET": "'a'",
    "HGETALL": "",
    "HINCRBY": "'a','x'",
    "HLEN": "",
    "HMGET": "'a'",
    "HSET": "'a','b','c'",
    "HVALS": "",
    "LINDEX": "0",
    "LPOP": "",
    "LPUSH": "'a'",
    "LRANGE": "0,0",
    "LTRIM": "0,0",
    "PEXPIRE": "1",
    "RENAME": "none",
    "RPUSH": "'a'",
    "SET": "'a','XX'",
    "XADD": "'NOMKSTREAM','*','a','b'",
    "XDEL": "'1-1'",
    "XLEN": "",
    "XRANGE": "'-','+'",
    "XTRIM": "'MAXLEN',0",
    "ZADD": "'XX',1,'a'",
    "ZCARD": "",
    "ZCOUNT": "0,0",
    "ZMSCORE": "'a'",
    "ZRANGE": "0,0",
    "ZRANGEBYSCORE": "0,0",
    "ZREM": "'a'",
    "ZREMRANGEBYRANK": "0,0",
    "ZREMRANGEBYSCORE": "0,0",
    "ZREVRANGEBYSCORE": "0,0",
    "ZSCORE": "'a'",
}
COMMANDS = frozenset(_ON_NOTHING) | {"TIME", "PUBLISH"}
"""Every command that a script may use."""
_WRITES = COMMANDS - {
    "EXISTS", "GET", "HEXISTS", "HGET", "HGETALL", "HLEN", "HMGET", "HVALS", "LINDEX", "LRANGE", "XLEN", "XRANGE",
    "TIME", "ZCARD", "ZCOUNT", "ZMSCORE", "ZRANGE", "ZRANGEBYSCORE", "ZREVRANGEBYSCORE", "ZSCORE",
}  # fmt: skip
_NEEDS_MEMORY = {"HSET", "HINCRBY", "SET", "XADD", "ZADD", "LPUSH", "RPUSH"}
FREES = "-- FREES"
"""A line in the text of a script that begins by giving memory back, and goes on where there is none."""
# These have no form that does nothing.
_PUSHES = {"LPUSH", "RPUSH"}

_HEAD = """\
local function no_right(right) return redis.error_reply('NOPERM the user lacks ' .. right) end
local may = redis.acl_check_cmd
local none = KEYS[1] .. '?'
-- 6.2: returns an error where the command, which was given so that it does nothing, was refused.
local function refused(name, reply)
  local text = type(reply) == 'table' and reply.err
  if not text then return end
  for _, harmless in ipairs({'not an integer', 'wrong number of arguments', 'no such key'}) do
    if string.find(text, harmless, 1, true) then return end
  end
  if string.find(text, "executing the script can't", 1, true) then return no_right(name) end
  return redis.error_reply((string.gsub(text, '^%-', '')))
end
"""
# 6.2 is asked by a channel that nobody hears, beside the one that is meant.
_CHANNEL = """\
-- Returns an error where the user may not announce anything on the channel.
local function unannounced(channel)
  if may then
    if not may('PUBLISH', channel, '') then return no_right('+publish, or the channel &' .. channel) end
    return
  end
  return refused('+publish, or the channel &' .. channel, redis.pcall('PUBLISH', channel .. '?', ''))
end
"""


def guarded(text: str) -> str:
    """Return a script that refuses as a whole: `text` behind the questions that it needs.

    One that announces finds `unannounced(channel)` there, and asks it before its first write.
    """
    used = [name for name in dict.fromkeys(_command.findall(text)) if name in COMMANDS]
    if sum(name in _WRITES for name in used) < 2:
        return text
    asked = [name for name in used if name in _ON_NOTHING]
    # With full memory Redis lets a script go on whose first write needs none. For 6.2 that is the first one asked for.
    first = {"DEL"} if FREES in text else _NEEDS_MEMORY
    asked = sorted(
        dict.fromkeys([*asked, "DEL"]) if _PUSHES & set(asked) or FREES in text else asked,
        key=lambda name: name not in first,
    )
    modern = "".join(f"  if not may('{name}', KEYS[1]) then return no_right('+{name.lower()}') end\n" for name in asked)
    old = "".join(_tried(name) for name in asked)
    channel = _CHANNEL if "PUBLISH" in used else ""
    return f"{_HEAD}{channel}if may then\n{modern}else\n  local no\n{old}end\n{text}"


def _tried(name: str) -> str:
    more = _ON_NOTHING[name]
    call = f"redis.pcall('{name}', none{',' if more else ''}{more})"
    tried = f"  no = refused('+{name.lower()}', {call}) if no then return no end\n"
    return tried + ("  redis.call('DEL', none)\n" if name in _PUSHES else "")
