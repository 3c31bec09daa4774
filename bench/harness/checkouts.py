"""A checkout of this project, of whichever age: what it is run with, and what it is."""

import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ASK_SECONDS = 60.0
PACKAGES = ("python-socketio", "python-engineio", "gevent", "gunicorn", "redis", "hiredis", "msgspec", "flask")
# What both sides must have in common: what their servers do for the load generator.
NAMESPACES = ("bench/servers/namespace.py", "bench/servers/feed.py")
NEEDED = ("gunicorn.conf.py", "bench/servers/ours.py", "bench/servers/ours_feed.py", *NAMESPACES)
# Where it would be imported from, without doing so.
_ASK = """
import importlib.metadata, importlib.util, json, platform, sys
names = dict.fromkeys(sys.argv[2:], "missing")
for name in names:
    try:
        names[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
spec = importlib.util.find_spec(sys.argv[1])
print(json.dumps([{"python": platform.python_version(), **names}, spec.origin if spec else None]))
"""


class CheckoutError(Exception):
    """A folder is no checkout that can be measured. The text says why."""


@dataclass(frozen=True)
class Checkout:
    """A folder that a server starts in and imports from, and the Python that runs it."""

    root: Path
    python: str

    @classmethod
    def at(cls, folder: str) -> "Checkout":
        """Return the checkout in `folder`, with its own .venv, else with this Python. Raises CheckoutError."""
        root = Path(folder).resolve()
        for name in NEEDED:
            if not (root / name).is_file():
                raise CheckoutError(f"{folder} is no checkout of this project: it has no {name}")
        own = root / ".venv" / "bin" / "python"
        return cls(root, str(own) if own.exists() else sys.executable)

    @property
    def emitter_module(self) -> str:
        """Return the module that has `Emitter`: before the package, it was a file at the top."""
        return "emitter" if (self.root / "emitter.py").is_file() else "mintflow_realtime"

    def commit(self) -> str:
        """Return the commit, with a plus where files differ from it."""
        told = []
        for words in (("rev-parse", "--short", "HEAD"), ("status", "--porcelain", "--untracked-files=no")):
            asked = ["git", "-C", str(self.root), *words]
            done = subprocess.run(asked, capture_output=True, text=True, timeout=ASK_SECONDS)
            if done.returncode:
                return "no commit"
            told.append(done.stdout.strip())
        return told[0] + ("+" if told[1] else "")

    def versions(self) -> dict[str, str]:
        """Return the versions it runs with. Raises CheckoutError, also where that Python imports another checkout."""
        done = subprocess.run(
            [self.python, "-c", _ASK, self.emitter_module, *PACKAGES],
            cwd=self.root,
            env={"PYTHONPATH": str(self.root)},
            capture_output=True,
            text=True,
            timeout=ASK_SECONDS,
        )
        if done.returncode:
            raise CheckoutError(f"{self.python} does not run in {self.root}: {done.stderr.strip()[-500:]}")
        versions, origin = json.loads(done.stdout)
        if origin is None or not Path(origin).resolve().is_relative_to(self.root):
            raise CheckoutError(f"{self.python} in {self.root} imports the server from {origin}, not from there")
        found: dict[str, str] = versions
        return found

    def namespaces(self) -> str:
        """Return a digest of what its servers do for the load generator."""
        return hashlib.sha256(b"\0".join((self.root / name).read_bytes() for name in NAMESPACES)).hexdigest()
