"""The wheel, built; and virtual environments that it is installed into, with what the requirements pin."""

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.servers import ROOT

# Of the checkout, all that goes into the archive.
SOURCES = ("pyproject.toml", "README.md", "mintflow_realtime", "auth", "namespaces")


def run(*command: object, cwd: Path | None = None, env: dict[str, str] | None = None, seconds: float = 110.0) -> str:
    """Run `command` and return what it printed on both streams; raise AssertionError where it failed.

    Without an `env` it is that of the tests, but for what measures their coverage.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=inherited if env is None else env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=seconds,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def copy_sources(target: Path) -> Path:
    """Copy what a wheel is built from, links as links: a build writes beside its sources."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, target / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(source, target / name)
    return target


@contextlib.contextmanager
def once(directory: Path, name: str) -> Iterator[bool]:
    """Tell one process of a run that it is the first, while the others wait for it; again where it failed."""
    done = directory / f"{name}.done"
    with open(directory / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield not done.exists()
        done.touch()


def build(directory: Path) -> Path:
    """Build wheel and source archive in `directory`, once a run; return where they are."""
    built = directory / "dist"
    with once(directory, "dist") as first:
        if first:
            sources = copy_sources(directory / "sources")
            run(sys.executable, "-m", "build", "--outdir", built, sources)
    return built


class Environment:
    """A new virtual environment in `directory`, without pip: the one of the tests installs into it."""

    def __init__(self, directory: Path, *requirements: object) -> None:
        """Make it, and install `requirements`, once a run."""
        self.directory, self.bin = directory, directory / "bin"
        self.python = self.bin / "python"
        self._pins = directory / "constraints.txt"
        with once(directory.parent, directory.name) as first:
            if first:
                self._make(requirements)

    def _make(self, requirements: Sequence[object]) -> None:
        run(sys.executable, "-m", "venv", "--without-pip", "--clear", self.directory)
        lines = [line for name in ("requirements.txt", "requirements-dev.txt") for line in _pins(ROOT / name)]
        self._pins.write_text("\n".join(lines))
        self.install(*requirements)

    def install(self, *requirements: object) -> str:
        """Install `requirements`, at the versions that the checkout pins; return what pip said."""
        return self._pip("install", "--no-compile", "--constraint", self._pins, *requirements)

    def env(self, **settings: str) -> dict[str, str]:
        """Return the environment of a program that runs here: nothing of the tests' but PATH."""
        path = f"{self.bin}{os.pathsep}{os.environ['PATH']}"
        return {"PATH": path, "HOME": str(self.directory), "PYTHONUNBUFFERED": "1", **settings}

    def run(self, *command: object, cwd: Path | None = None, seconds: float = 60.0, **settings: str) -> str:
        """Run one of its programs by name, in `cwd` or its own directory, with `settings` in the environment."""
        program = self.bin / str(command[0])
        return run(program, *command[1:], cwd=cwd or self.directory, env=self.env(**settings), seconds=seconds)

    def installed(self) -> dict[str, str]:
        """Return {name: version} of all that is installed."""
        lines = self._pip("list", "--format", "freeze").splitlines()
        return dict(line.split("==") for line in lines if "==" in line)

    def _pip(self, *arguments: object) -> str:
        return run(sys.executable, "-m", "pip", "--no-input", "--python", self.python, *arguments)


def _pins(path: Path) -> list[str]:
    # Constraints have no extras.
    return [re.sub(r"\[.*?\]", "", line) for line in path.read_text().splitlines() if "==" in line]
