"""Where settings come from: app.config, MINTFLOW_<NAME> in the environment, the plain name, in this order."""

import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from mintflow_realtime.settings.table import BY_NAME, SETTINGS

PREFIX = "MINTFLOW_"
APP_CONFIG = "app.config"
DEFAULT = "default"

# What Kubernetes and Docker set for a service called `redis` or `mintflow`: REDIS_PORT=tcp://10.0.0.1:6379.
_INJECTED = re.compile(r"(tcp|udp|sctp)://\S*")
_LOGIN = re.compile(r"(?<=://)[^/?#]*(?=@)")
_QUERY_SECRET = re.compile(r"([?&][^=&]*password=)[^&#]*")
SHOWN_CHARACTERS = 200


class SettingError(ValueError):
    """A setting can't be used; the text is a sentence that begins with its name and never shows a secret."""

    # For who starts the server: a worker that can't load the application for this needs no traceback.
    is_sentence = True

    def __init__(self, name: str, fault: str) -> None:
        super().__init__(f"{name} {fault}.")
        self.name = name


class Found(NamedTuple):
    """One value that is set. `spelled` is how who set it wrote it; a lower `rank` goes before a higher one."""

    value: Any
    origin: str
    spelled: str
    rank: int


class Sources:
    """Looks up settings. `url` is a Redis that the caller named, which goes before every other."""

    def __init__(self, config: Mapping[str, Any] | None, env: Mapping[str, str], url: str | None = None) -> None:
        self._config = config or {}
        self._env = env
        self._url = url

    def find(self, name: str) -> Found | None:
        """Return what is set under a name; None in app.config and an empty text count as unset."""
        if name == "REDIS_URL" and self._url is not None:
            return Found(self._url, "argument", "The URL", 0)
        prefixed = PREFIX + name
        value = self._config.get(prefixed)
        if value is not None and not (isinstance(value, str) and not value.strip()):
            return Found(value, APP_CONFIG, f"{prefixed} in app.config", 1)
        for rank, spelled in enumerate((prefixed, name), 2):
            text = self._env.get(spelled, "")
            if text.strip() and not is_injected(spelled, text):
                return Found(text, spelled, spelled, rank)
        return None

    def injected(self, name: str) -> str | None:
        """Return how a name is spelled that holds what Kubernetes put there, which counts as unset."""
        for spelled in (PREFIX + name, name):
            if is_injected(spelled, self._env.get(spelled, "")):
                return spelled
        return None


def is_injected(name: str, text: str) -> bool:
    """Tell whether the environment has this from Kubernetes or Docker, and nobody meant a setting of ours."""
    return name.endswith("PORT") and _INJECTED.fullmatch(text.strip()) is not None


class Row(NamedTuple):
    """A setting as it stands: what may be shown of its value, and where that comes from."""

    name: str
    shown: str
    origin: str


def overview(config: Mapping[str, Any] | None = None, env: Mapping[str, str] = os.environ) -> list[Row]:
    """Return every setting as it is set, unchecked, in the order of the table."""
    sources = Sources(config, env)
    rows = []
    for setting in SETTINGS:
        found = sources.find(setting.name)
        value, origin = (found.value, found.origin) if found else (setting.default, DEFAULT)
        rows.append(Row(setting.name, shown(setting.name, value), origin))
    return rows


def origins(config: Mapping[str, Any] | None = None, env: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return where each setting comes from: `app.config`, the environment's name for it, or `default`."""
    return {row.name: row.origin for row in overview(config, env)}


def shown(name: str, value: Any) -> str:
    """Return what may be shown of a setting's value: nothing of a secret, and no password of a URL."""
    if value is None or value == "":
        return ""
    if BY_NAME[name].secret:
        return "(hidden)"
    if isinstance(value, bool):
        return str(value).lower()
    text = ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    if BY_NAME[name].type == "URL":
        text = _QUERY_SECRET.sub(r"\1***", _LOGIN.sub("***", text))
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…"
