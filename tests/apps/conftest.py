"""What the tests of installed packages share, made once for all processes that run tests."""

import shutil
from pathlib import Path

import pytest

from tests.apps.environment import Environment, build
from tests.servers import ROOT

SHOP = ROOT / "tests" / "apps" / "shop"

collect_ignore = ["shop", "publishers"]


@pytest.fixture(scope="session")
def shared_directory(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    base = tmp_path_factory.getbasetemp()
    return base if worker_id == "master" else base.parent


@pytest.fixture(scope="session")
def dist(shared_directory: Path) -> Path:
    """The directory of the wheel and the source archive."""
    return build(shared_directory)


@pytest.fixture(scope="session")
def wheel(dist: Path) -> Path:
    (found,) = dist.glob("*.whl")
    return found


@pytest.fixture(scope="session")
def bare(shared_directory: Path, wheel: Path) -> Environment:
    """The wheel and what it brings, nothing else: not even pip."""
    return Environment(shared_directory / "bare", wheel)


@pytest.fixture(scope="session")
def workers(shared_directory: Path, wheel: Path) -> Environment:
    """The wheel beside what may be where a process publishes."""
    return Environment(shared_directory / "workers", wheel, "celery[redis]", "rq", "Flask", "pytest")


@pytest.fixture(scope="session")
def server(shared_directory: Path, wheel: Path) -> Environment:
    """The wheel that serves, and nothing else: pytest, for one, brings what would not be missed."""
    return Environment(shared_directory / "server", f"{wheel}[server]")


@pytest.fixture(scope="session")
def shop_environment(shared_directory: Path, wheel: Path) -> Environment:
    """The wheel that serves, and what the shop needs besides."""
    needs = ("Flask-WTF", "SQLAlchemy", "pytest", "requests")
    return Environment(shared_directory / "shop", f"{wheel}[server,testing]", *needs)


@pytest.fixture
def folder(short_path: Path) -> Path:
    """An empty folder with a short name: a Redis listens on a socket in it."""
    return short_path


@pytest.fixture
def shop(folder: Path) -> Path:
    """The shop, alone in a folder."""
    shutil.copytree(SHOP, folder / "shop", ignore=shutil.ignore_patterns("__pycache__", ".pytest_cache", "*.db"))
    return folder / "shop"
