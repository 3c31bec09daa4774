"""The settings of a test server, the environment that its processes get, and the tokens that fit both."""

import difflib
import os
import secrets
import sys
import sysconfig
import time
from collections.abc import Mapping, Sequence
from typing import Any

from mintflow_realtime.settings.settings import SETTINGS, SettingError

TOKEN_SECONDS = 3600
_NAMES = tuple(setting.name for setting in SETTINGS)
_OWN = "MINTFLOW_"


class ServerSettings:
    """What a test server is told: `given` (bools, numbers and lists as they are), and what it needs besides.

    Raises SettingError for a name that doesn't exist.
    """

    def __init__(self, given: Mapping[str, Any], tenants: Sequence[str], **own: str) -> None:
        self.values = {
            "JWT_SECRET": secrets.token_urlsafe(48),
            # Who is still connected at the end of a test is not to be waited for.
            "DRAIN_SECONDS": "0.1",
            **own,
        }
        for name, value in given.items():
            plain = name.removeprefix(_OWN)
            if plain not in _NAMES:
                near = difflib.get_close_matches(plain, _NAMES, 1)
                raise SettingError(name, f"is no setting{f'; did you mean {near[0]}' if near else ''}")
            self.values[plain] = _text(value)
        if any(name in self.values for name in ("REDIS_HOST", "REDIS_PORT", "REDIS_PASSWORD", "REDIS_DB")):
            raise SettingError("REDIS_HOST", "and its kin can't be set: a test server has a Redis of its own")
        self._keys = {tenant: secrets.token_urlsafe(36) for tenant in tenants}
        pairs = [self.values.get("API_KEYS", ""), *(f"{key}:{tenant}" for tenant, key in self._keys.items())]
        self.values["API_KEYS"] = ",".join(filter(None, pairs))
        for pair in pairs[0].split(","):
            key, _, tenant = pair.strip().rpartition(":")
            self._keys[tenant] = key

    @property
    def socket_path(self) -> str:
        return self.values.get("SOCKET_PATH", "/socket.io")

    @property
    def transports(self) -> list[str]:
        """The first transport that clients may begin by."""
        return [self.values.get("SOCKET_TRANSPORTS", "websocket").partition(",")[0].strip()]

    def environment(self, more: Mapping[str, str]) -> dict[str, str]:
        """Return what the server's processes run in: this process's, `more`, and of our settings only these."""
        ours = {*_NAMES, *(_OWN + name for name in _NAMES), "GUNICORN_CMD_ARGS", "GUNICORN_FD"}
        kept = {name: value for name, value in os.environ.items() if name not in ours}
        return {**kept, "PYTHONPATH": os.pathsep.join(_import_path()), **more, **self.values}

    def api_key(self, tenant: str) -> str:
        """Return the API key of `tenant`. Raises ValueError where the server has none."""
        if tenant not in self._keys:
            known = ", ".join(filter(None, self._keys))
            raise ValueError(
                f"There is an API key for {known or 'no tenant'}: name {tenant!r} in RealtimeServer(tenants=[…])"
            )
        return self._keys[tenant]

    def token(self, user: str, tenants: Sequence[str], claims: Mapping[str, Any]) -> str:
        """Return a JWT of an hour that the server accepts; a claim that is None is left out. Raises ValueError."""
        import jwt

        algorithm = self.values.get("JWT_ALGORITHMS", "HS256").partition(",")[0].strip()
        if not algorithm.startswith("HS"):
            raise ValueError(f"The server's tokens are signed with {algorithm}: sign them with your own private key.")
        now = int(time.time())
        body = {
            "sub": user,
            "tenants": list(tenants),
            "iat": now,
            "exp": now + TOKEN_SECONDS,
            "iss": self.values.get("JWT_ISSUER"),
            "aud": self.values.get("JWT_AUDIENCE"),
            **claims,
        }
        kept = {name: value for name, value in body.items() if value is not None}
        return jwt.encode(kept, self.values["JWT_SECRET"], algorithm)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    return str(value)


def _import_path() -> list[str]:
    """Return where this process imports from, but for what any process of this interpreter has: pytest adds to it."""
    paths = sysconfig.get_paths()
    everywhere = {paths["stdlib"], paths["platstdlib"], paths["purelib"], paths["platlib"]}
    everywhere.add(os.path.join(paths["platstdlib"], "lib-dynload"))
    found = [os.path.abspath(entry) for entry in sys.path]
    return [entry for entry in dict.fromkeys(found) if entry not in everywhere and not entry.endswith(".zip")]
