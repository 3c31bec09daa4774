"""Names that look like a setting of ours and are none: SOCKET_AUTH_REQUIERD must not start an open server."""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from mintflow_realtime.settings.sources import PREFIX, SettingError, is_injected
from mintflow_realtime.settings.table import BY_NAME

# Of these families every name is ours. The others are shared, and only a slip in one of our names stops the start:
# REDIS_ has REDIS_USERNAME, REDIS_TLS_URL and what Kubernetes sets (REDIS_SERVICE_HOST, REDIS_PORT_6379_TCP_ADDR);
# OPENAI_ has OPENAI_ORG_ID and OPENAI_LOG of the SDK; WORKSPACE_ has WORKSPACE_TMP of Jenkins; API_KEY, LOG_FORMAT,
# WEB_PORT, HOSTNAME, DATA_PATH, LOGS_BUCKET, RUNS_ON, AI_MODEL, TICKET_URL are anybody's.
_FAMILIES = re.compile(r"(SOCKET|JWT|RECOVERY)_[A-Z0-9_]+")
# JWT_ is ours but for what Flask-JWT and Flask-JWT-Extended read, whose users keep it in the environment as well.
# Who means one of ours by such a name finds out: without JWT_SECRET no token is accepted.
_OF_EXTENSIONS = re.compile(
    r"JWT_(ACCESS|REFRESH|SESSION|COOKIE|CSRF|HEADER|QUERY_STRING|JSON|TOKEN|DECODE|ENCODE|AUTH|ERROR|IDENTITY|VERIFY|"
    r"EXPIR|LEEWAY|NOT_BEFORE|DEFAULT|REQUIRED|BLACKLIST|BLOCKLIST)[A-Z0-9_]*|JWT_(SECRET|PRIVATE)_KEY|JWT_ALGORITHM"
)
# A service called `mintflow`, `socket` or `mintflow-realtime` is announced to every pod beside it.
_OF_KUBERNETES = re.compile(
    r"[A-Z0-9_]+(_SERVICE_HOST|_SERVICE_PORT(_[A-Z0-9_]+)?|_PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
# One letter beside REDIS_URL, and meant.
_ELSEWHERE = frozenset({"REDIS_URI"})
# HOST_IP and POST are no slips of HOST_ID and PORT.
_LONG_ENOUGH = 8


def check_names(
    config: Mapping[str, Any] | None, env: Mapping[str, str], read: Collection[str] = tuple(BY_NAME)
) -> None:
    """Raise SettingError for the first name of our families that isn't in the table.

    `read` are the settings that this process uses: a slip in another's name is no matter of its.
    """
    for name in sorted(key for key in config or {} if isinstance(key, str) and key.startswith(PREFIX)):
        _check(name, f"{name} in app.config", read)
    for name in sorted(env):
        if (_is_ours(name) or _is_slip(name)) and env[name].strip() and not is_injected(name, env[name]):
            _check(name, name, read)


def _is_ours(name: str) -> bool:
    if _OF_KUBERNETES.fullmatch(name):
        return False
    return name.startswith(PREFIX) or (_FAMILIES.fullmatch(name) is not None and _OF_EXTENSIONS.fullmatch(name) is None)


def _is_slip(name: str) -> bool:
    if len(name) < _LONG_ENOUGH or name in BY_NAME or name in _ELSEWHERE or _OF_EXTENSIONS.fullmatch(name):
        return False
    plain = name[len(PREFIX) :] if len(name) > len(PREFIX) + 3 and one_slip(name[: len(PREFIX)], PREFIX) else ""
    return plain in BY_NAME or any(
        len(known) >= _LONG_ENOUGH and one_slip(name, known) and not _is_form(name, known) for known in BY_NAME
    )


def _is_form(name: str, known: str) -> bool:
    # API_KEY, REDIS_URLS, LOGLEVEL and DATADIR are words of others, not slips.
    return name.rstrip("S") == known.rstrip("S") or name.replace("_", "") == known.replace("_", "")


def one_slip(text: str, known: str) -> bool:
    """Tell whether one letter is missing, too many, another, or two beside each other are the wrong way round."""
    if abs(len(text) - len(known)) > 1 or text == known:
        return False
    start = 0
    while start < min(len(text), len(known)) and text[start] == known[start]:
        start += 1
    one, other = text[start:], known[start:]
    return (
        one[1:] == other[1:]
        or one[1:] == other
        or one == other[1:]
        or (len(one) > 1 and one[:2] == other[1::-1] and one[2:] == other[2:])
    )


def _check(name: str, spelled: str, read: Iterable[str]) -> None:
    plain = name.removeprefix(PREFIX)
    if plain in BY_NAME:
        return
    close = nearest(plain)
    if close in read:
        meant = f"{PREFIX}{close}" if name.startswith(PREFIX) else close
        raise SettingError(spelled, f"is no setting; the nearest is {meant}")


def nearest(name: str) -> str:
    """Return the setting whose name is most like `name`."""
    from difflib import SequenceMatcher  # only where something is wrong

    family, _, _ = name.partition("_")

    def likeness(known: str) -> tuple[bool, float]:
        return one_slip(name, known), SequenceMatcher(None, name, known).ratio() + (known.partition("_")[0] == family)

    return max(BY_NAME, key=likeness)
