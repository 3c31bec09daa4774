"""How single settings are read: each kind with its own check, each fault a sentence. Standard library only."""

import math
import os
import re
from collections.abc import Callable
from typing import Any, cast

from mintflow_realtime.settings.cores import cores
from mintflow_realtime.settings.sources import Found, SettingError, Sources
from mintflow_realtime.settings.table import BY_NAME

# As mintflow_realtime.protocol.ids has it, which needs msgspec.
ID_PATTERN = r"\A[A-Za-z0-9][A-Za-z0-9._@-]{0,127}\Z"
# As browsers send it: no path, no slash at the end. All names below one of two labels, or below localhost, by `*.`.
ORIGIN = re.compile(
    r"null|[A-Za-z][A-Za-z0-9+.-]*://(\*\.(?=[^\s/,*?#@:]+\.[^\s/,*?#@:]|localhost\b))?"
    r"(?P<host>[^\s/,*?#@:;%<>\\\"'`|^{}\[\]]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?"
)
_SCOPES = "logs:read logs:write logs:clear flows:read flows:write flows:control workspaces:read workspaces:write ai:use"
SCOPES = tuple(_SCOPES.split())
YEARS = 10 * 365 * 86400
LOG_LEVELS = ("debug", "info", "warning", "error", "critical")
# As `logging` has them; NOTSET means everything.
_LEVELS = {"warn": "warning", "fatal": "critical", "notset": "debug", "0": "debug"}
_LEVELS.update({str(number): name for number, name in zip(range(10, 60, 10), LOG_LEVELS, strict=True)})
_BOOLEANS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


def _is_host(origin: re.Match[str] | None) -> bool:
    from ipaddress import IPv6Address

    host = origin["host"] if origin is not None else None
    if host is None:
        return True
    try:
        if host.startswith("["):
            return bool(IPv6Address(host[1:-1]))
        return all((host if host.isascii() else host.encode("idna").decode()).removesuffix(".").split("."))
    except ValueError:
        return False


class Reader:
    """Reads single settings, each by its kind; every method raises SettingError."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def find(self, name: str) -> Found | None:
        """Return what is set under a name, unchecked."""
        return self._sources.find(name)

    def injected(self, name: str) -> str | None:
        """Return how a name is spelled that holds what Kubernetes put there, which counts as unset."""
        return self._sources.injected(name)

    def value(self, name: str) -> Any:
        """Return what is set, texts without the spaces around them; else the default, which is text."""
        found = self.find(name)
        value = found.value if found else BY_NAME[name].default
        return value.strip() if isinstance(value, str) else value

    def fault(self, name: str, fault: str, value: Any = None) -> SettingError:
        """Return the error that names a setting as it is written; `value` is shown where it holds no secret."""
        found = self.find(name)
        if value is not None and not BY_NAME[name].secret and BY_NAME[name].type != "URL":
            fault += f", not {value[:40]!r}" if isinstance(value, str) else f", not {value!r:.40}"
        return SettingError(found.spelled if found else name, fault)

    def text(self, name: str) -> str:
        value = self.value(name)
        if not isinstance(value, str):
            raise self.fault(name, "must be text", value)
        return value

    def integer(self, name: str, low: int, high: int, default: str = "") -> int:
        value = self.value(name)
        value = default if value == "" else value
        # The length first: int() refuses thousands of digits with an error of its own.
        if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value):
            value = int(value)
        if type(value) is not int or not low <= value <= high:
            raise self.fault(name, f"must be a whole number from {low} to {high}", value)
        return value

    def number(self, name: str, low: float, high: float) -> float:
        value = found = self.value(name)
        if isinstance(value, str):
            try:
                value = float(value)
            except ValueError:
                value = math.nan
        if type(value) not in (int, float) or not low <= value <= high:
            raise self.fault(name, f"must be a number from {low:g} to {high:g}", found)
        return float(value)

    def address(self, name: str) -> tuple[str, int] | None:
        """Return the host and the port of `host:port` or `[host]:port`; None where it isn't set."""
        text = self.text(name)
        if not text:
            return None
        found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]+)):([0-9]{1,5})", text)
        if found is None or not 1 <= int(found[3]) <= 65535:
            raise self.fault(name, "must be an address with a port, such as 127.0.0.1:9464 or [::1]:9464", text)
        return found[1] or found[2], int(found[3])

    def boolean(self, name: str) -> bool:
        value = self.value(name)
        # True, False and the numbers 1 and 0 too, which FLASK_MINTFLOW_…=1 becomes in app.config.
        known = _BOOLEANS.get(str(value).lower()) if isinstance(value, (bool, int, str)) else None
        if known is None:
            raise self.fault(name, "must be true or false", value)
        return known

    def one_of(self, name: str, known: tuple[str, ...]) -> str:
        value = self.value(name)
        if not isinstance(value, str) or value.lower() not in known:
            raise self.fault(name, f"must be one of {', '.join(filter(None, known))}", value)
        return value.lower()

    def matching(self, name: str, pattern: str, default: str = "") -> str:
        text = self.text(name) or default
        if not re.fullmatch(pattern, text):
            shown = "" if BY_NAME[name].secret else f", not be {text[:40]!r}"
            raise self.fault(name, f"must match {pattern}{shown}")
        return text

    def members(self, name: str, separator: str = ",", unique: bool = True) -> tuple[str, ...]:
        """Return a list, or the parts of a text between separators (a pattern), none empty."""
        value = self.value(name)
        if isinstance(value, str):
            value = re.split(separator, value)
        if not isinstance(value, (list, tuple)) or not all(isinstance(part, str) for part in value):
            raise self.fault(name, "must be a list of texts, or one text with commas", value)
        parts = [part.strip() for part in value if part.strip()]
        return tuple(dict.fromkeys(parts) if unique else parts)

    def listed(self, name: str, member: re.Pattern[str]) -> tuple[str, ...]:
        """Return the members of a list, each once."""
        members = self.members(name)
        for part in members:
            if not member.fullmatch(part):
                raise self.fault(name, f"has the member {part[:40]!r}, which does not match {member.pattern}")
        if not members:
            raise self.fault(name, "must have a member")
        return members

    def anonymous_scope(self) -> tuple[str, ...]:
        """Return what anonymous clients may do: with the echo backend, which costs nothing, AI too by default.

        Scopes may be separated by spaces too, as in a token.
        """
        name = "SOCKET_ANONYMOUS_SCOPE"
        members = self.members(name, r"[,\s]+")
        if members == ("none",):
            return ()
        for part in members:
            if part not in SCOPES:
                raise self.fault(name, f"has the scope {part[:40]!r}; known are {', '.join(SCOPES)}")
        is_default = self.find(name) is None
        return (*members, "ai:use") if is_default and str(self.value("AI_BACKEND")).lower() == "echo" else members

    def cors_origin(self) -> tuple[str, ...] | str | Callable[[str], bool]:
        """Return origins, `*`, or what an application has put there to decide."""
        value = self.value("SOCKET_CORS_ORIGIN")
        if callable(value):
            return cast(Callable[[str], bool], value)
        if value in ("*", ["*"], ("*",)):
            return "*"
        members = self.listed("SOCKET_CORS_ORIGIN", ORIGIN)
        for part in members:
            if not _is_host(ORIGIN.fullmatch(part)):
                raise self.fault("SOCKET_CORS_ORIGIN", f"has the member {part[:40]!r}, whose host is none")
        return members

    def data_dir(self) -> str:
        value = self.value("DATA_DIR")
        if not isinstance(value, (str, os.PathLike)) or isinstance(os.fspath(value), bytes):
            raise self.fault("DATA_DIR", "must be a path", value)
        return os.path.abspath(value)

    def log_level(self) -> str:
        """Return one of LOG_LEVELS, by its name, another usual one, or the number that `logging` has for it."""
        value = self.value("LOG_LEVEL")
        level = str(value).lower() if type(value) in (int, str) else ""
        level = _LEVELS.get(level, level)
        if level not in LOG_LEVELS:
            raise self.fault("LOG_LEVEL", f"must be one of {', '.join(LOG_LEVELS)}", value)
        return level

    def web_concurrency(self) -> int:
        value = self.value("WEB_CONCURRENCY")
        if isinstance(value, str) and value.lower() == "auto":
            return min(cores(), 1024)
        return self.integer("WEB_CONCURRENCY", 1, 1024)

    def host(self) -> str:
        """Return an address or a host's name; "" for all addresses of both families."""
        value = self.text("HOST")
        if value == "*":
            return ""
        host = value[1:-1] if value.startswith("[") and value.endswith("]") else value
        if not re.fullmatch(r"[A-Za-z0-9._:%-]*", host) or re.fullmatch(r"[^:]*:[0-9]+", host):
            raise self.fault("HOST", "must be an address or a name without a port, such as 127.0.0.1 or ::1", value)
        return host

    def proxies(self) -> tuple[str, ...]:
        """Return addresses and networks of proxies, or ("*",) for any."""
        from ipaddress import ip_network

        members = self.members("FORWARDED_ALLOW_IPS")
        for part in members:
            try:
                if part != "*":
                    ip_network(part)
            except ValueError as error:
                raise self.fault("FORWARDED_ALLOW_IPS", f"must have addresses, networks or *: {error}") from None
        return members
