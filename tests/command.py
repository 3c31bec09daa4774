"""The command line as people run it: `python -m mintflow_realtime.cli`, with an environment of its own."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from tests.servers import PYTHON_PATH, ROOT, SECRET, until


def environment(**env: str) -> dict[str, str]:
    """Return what a command sees: the project on the path, a secret, and nothing of the developer's own settings."""
    coverage = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE")}
    base = {"PATH": os.environ["PATH"], "HOME": tempfile.gettempdir(), "PYTHONPATH": PYTHON_PATH, "JWT_SECRET": SECRET}
    return {**base, "LANG": "C.UTF-8", **coverage, **env}


def with_entry_points(directory: Path) -> str:
    """Return a PYTHONPATH on which the project looks installed, with the entry points of its pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    metadata = directory / "mintflow_realtime-0.dist-info"
    metadata.mkdir(exist_ok=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0\n")
    groups = {"console_scripts": project["scripts"], "flask.commands": project["entry-points"]["flask.commands"]}
    lines = [f"[{group}]\n" + "".join(f"{a} = {b}\n" for a, b in entries.items()) for group, entries in groups.items()]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    return f"{PYTHON_PATH}{os.pathsep}{directory}"


def run(
    *args: str,
    stdin: str = "",
    cwd: Path | None = None,
    seconds: float = 60,
    module: str = "mintflow_realtime.cli",
    **env: str,
) -> Any:
    """Return the finished process; its output is text."""
    return subprocess.run(
        [sys.executable, "-m", module, *args],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=seconds,
        cwd=cwd or ROOT,
        env=environment(**env),
    )


def hear_ctrl_c() -> None:
    """Undo that a shell lets what it runs in the background ignore SIGINT, and what that begins as well."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Running:
    """A command that goes on; `text` is what it has printed, `errors` what it said beside that."""

    def __init__(self, *args: str, cwd: Path | None = None, module: str = "mintflow_realtime.cli", **env: str) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="mf-cli-"))
        self._out, self._err = self.directory / "out", self.directory / "err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, *args],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=cwd or ROOT,
                env=environment(**env),
                preexec_fn=hear_ctrl_c,
            )

    @property
    def text(self) -> str:
        return self._out.read_text()

    @property
    def errors(self) -> str:
        return self._err.read_text()

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    def wait_for(self, pattern: str, seconds: float = 30.0) -> None:
        """Wait until `pattern` is in what was printed, or said beside it."""

        def there() -> bool:
            assert self.process.poll() is None or re.search(pattern, self.text + self.errors), self.errors
            return re.search(pattern, self.text + self.errors) is not None

        until(there, seconds, f"{pattern!r} in {self.text[-2000:]!r} {self.errors[-2000:]!r}")

    def stop(self, number: int = signal.SIGINT) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait(5)
