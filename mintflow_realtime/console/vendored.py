"""What the page runs on and others wrote: files of npm packages, copied beside this one with their licences.

`python -m mintflow_realtime.console.vendored node_modules` copies them; standard library only, as `make` runs it.
Bare names of modules become paths: an import map would be an inline script, which the page's policy forbids.
"""

import re
import sys
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent / "vendor"


class Vendored(NamedTuple):
    """A file of an npm package, and what it is called here."""

    package: str
    source: str
    name: str


FILES = (
    Vendored("preact", "dist/preact.mjs", "preact.js"),
    Vendored("preact", "hooks/dist/hooks.mjs", "preact-hooks.js"),
    Vendored("preact", "LICENSE", "preact.LICENSE"),
    Vendored("htm", "dist/htm.module.js", "htm.js"),
    Vendored("htm", "LICENSE", "htm.LICENSE"),
    Vendored("uplot", "dist/uPlot.esm.js", "uplot.js"),
    Vendored("uplot", "dist/uPlot.min.css", "uplot.css"),
    Vendored("uplot", "LICENSE", "uplot.LICENSE"),
    Vendored("socket.io-client", "dist/socket.io.esm.min.js", "socket.io.esm.min.js"),
    Vendored("socket.io-client", "dist/socket.io.js", "socket.io.js"),
    Vendored("socket.io-client", "dist/socket.io.min.js", "socket.io.min.js"),
    Vendored("socket.io-client", "dist/socket.io.msgpack.min.js", "socket.io.msgpack.min.js"),
    Vendored("socket.io-client", "LICENSE", "socket.io-client.LICENSE"),
)
# What Node's server gives to clients, below the socket path.
CLIENT_FILES = tuple(file.name for file in FILES if file.name.startswith("socket.io.") and file.name.endswith(".js"))
_MODULES = {"preact": "./preact.js"}
# An import at the beginning of a file or after a statement, as minifiers write it; not one that a comment shows.
_BARE = re.compile(r"""((?:^|;)import\s*\{[^}]*\}\s*from)(["'])([a-z@][^"']*)\2""")
# A map that isn't there would be a 404 in every developer's tools.
_SOURCE_MAP = re.compile(r"^//# sourceMappingURL=.*$", re.MULTILINE)


def is_complete(folder: Path = FOLDER) -> bool:
    """Tell whether every file is there."""
    return all((folder / file.name).is_file() for file in FILES)


def copy(node_modules: Path, folder: Path = FOLDER) -> None:
    """Copy all files from `node_modules`. Raises FileNotFoundError, ValueError for an import of what isn't here."""
    folder.mkdir(exist_ok=True)
    for file in FILES:
        text = (node_modules / file.package / file.source).read_text(encoding="utf-8")
        if file.name.endswith(".js"):
            text = _SOURCE_MAP.sub("", _BARE.sub(_by_path, text))
        (folder / file.name).write_text(text, encoding="utf-8")


def _by_path(found: re.Match[str]) -> str:
    before, quote, name = found.groups()
    if name not in _MODULES:
        raise ValueError(f"The page has no module {name!r}")
    return f"{before}{quote}{_MODULES[name]}{quote}"


if __name__ == "__main__":
    copy(Path(sys.argv[1]))
