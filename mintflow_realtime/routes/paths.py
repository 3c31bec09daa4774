"""Ids in paths: `%2F` in one is a part of it, though WSGI shows the path decoded, where it looks like any slash.

`/flows/{flowId}/runs/{runId}` is told by the request's target as it came (REQUEST_URI, or RAW_URI under some servers),
and `SLASH` stands for an encoded slash until the view reads the id. No id holds that character.
"""

import re
from typing import Any
from urllib.parse import unquote_to_bytes

SLASH = "\x01"
_FLAG = "mintflow.encoded_slashes"
_paths_with_ids = re.compile(
    r"/(?:flows/[^/]+/runs/[^/]+(?:/(?:events|beat|cancel|signals))?|flows/[^/]+/control|workspaces/[^/]+)"
).fullmatch
_slash = re.compile("%2[Ff]")


def keep_encoded_slashes(environ: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Return a request's environ, with `SLASH` for the encoded slashes in its PATH_INFO where it is one of the API's
    paths with ids, below `prefix`; any other as it is.
    """
    raw = str(environ.get("REQUEST_URI") or environ.get("RAW_URI") or "").partition("?")[0]
    if not raw.startswith("/"):
        # What a proxy is asked for, with scheme and host.
        raw = "/" + raw.partition("://")[2].partition("/")[2]
    raw = raw.removeprefix(environ.get("SCRIPT_NAME", ""))
    if not _slash.search(raw) or SLASH in environ["PATH_INFO"]:
        return environ
    if not raw.startswith(prefix) or not _paths_with_ids(raw[len(prefix) :]) or _decoded(raw) != environ["PATH_INFO"]:
        return environ
    return {**environ, "PATH_INFO": _decoded(_slash.sub(SLASH, raw)), _FLAG: True}


def id_in_path(text: str, environ: dict[str, Any]) -> str:
    """Return an id as the client meant it, from a part of the path that Flask has read."""
    return text.replace(SLASH, "/") if _FLAG in environ else text


def _decoded(path: str) -> str:
    return unquote_to_bytes(path.encode("latin-1", "replace")).decode("latin-1")
