"""A shop of each test's own, and its visitors: in this process, or over the network from one that really runs."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient

from config import TestConfig
from factory import create_app
from models import Base, db

Fields = dict[str, object]


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    return filled(f"sqlite:///{tmp_path / 'shop.db'}")


def filled(database_url: str) -> Flask:
    """Return an application with two users and three products in its database, and nothing else."""
    app = create_app(TestConfig, DATABASE_URL=database_url)
    Base.metadata.drop_all(db.get_bind())
    Base.metadata.create_all(db.get_bind())
    result = app.test_cli_runner().invoke(args=["fill"])
    assert result.exit_code == 0, result.output
    return app


class Visitor:
    """A browser: it keeps cookies, and sends the CSRF token of the page that it was shown."""

    def __init__(self, client: FlaskClient) -> None:
        self.client = client

    def log_in(self, name: str) -> "Visitor":
        answer = self.post("/login", name=name, password=f"{name}'s password")
        assert answer.status_code == 302
        return self

    def post(self, path: str, **fields: object) -> Any:
        page = self.client.get("/login").text
        return self.send(path, fields, {"X-CSRFToken": csrf_token(page)})

    def send(self, path: str, fields: Fields, headers: dict[str, str]) -> Any:
        return self.client.post(path, data=fields, headers=headers)


def csrf_token(page: str) -> str:
    return re.search(r'name="csrf-token" content="([^"]+)"', page)[1]


@pytest.fixture
def visitor(app: Flask) -> Callable[[], Visitor]:
    return lambda: Visitor(app.test_client())


class Remote(requests.Session):
    """As much of a test client as a Visitor needs, of a shop at `url`."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url

    def request(self, method: str, path: str, *args: Any, **options: Any) -> requests.Response:
        options.update(allow_redirects=False, timeout=20)
        return super().request(method, self.url + path, *args, **options)


class RemoteVisitor(Visitor):
    client: Remote

    def ticket(self) -> str:
        return self.post("/ticket").json()["ticket"]

    @property
    def cookies(self) -> dict[str, str]:
        """The headers by which a browser shows who it is."""
        return {"Cookie": "; ".join(f"{cookie.name}={cookie.value}" for cookie in self.client.cookies)}


@pytest.fixture(scope="session")
def database_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('live') / 'shop.db'}"


@pytest.fixture(scope="session")
def mintflow_options(database_url: str) -> dict[str, Any]:
    """What the shop that really runs is told."""
    return {"env": {"SHOP_DATABASE_URL": database_url}}


@pytest.fixture
def live(mintflow_server: Any, database_url: str) -> Iterator[Callable[[str], RemoteVisitor]]:
    """Returns visitors of the running shop, logged in by their names; it is filled anew for each test."""
    filled(database_url)
    sessions: list[Remote] = []

    def visit(name: str) -> RemoteVisitor:
        sessions.append(Remote(mintflow_server.url))
        visitor = RemoteVisitor(sessions[-1])
        visitor.log_in(name)
        return visitor

    yield visit
    for session in sessions:
        session.close()
    db.remove()
