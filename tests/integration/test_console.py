"""The console as HTTP has it: the page and its policy, the stock client, and how one signs in."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from flask import Flask

from mintflow_realtime import SocketManager
from mintflow_realtime.console import files, vendored
from mintflow_realtime.console.headers import POLICY
from tests.command import run
from tests.redis_fixture import PrivateRedis
from tests.servers import ROOT, SECRET, Node, token
from tests.tenants import Tenant


@pytest.fixture(autouse=True)
def complete() -> None:
    """A checkout without Node.js has no page to look at."""
    if not vendored.is_complete():
        pytest.skip("run `make setup`, with Node.js")


@pytest.fixture
def new_app(shared_redis: PrivateRedis) -> Iterator[Callable[..., Flask]]:
    made: list[SocketManager] = []

    def make(url_prefix: str = "", **config: Any) -> Flask:
        app = Flask("shop")
        app.config.update(MINTFLOW_REDIS_URL=shared_redis.url, MINTFLOW_JWT_SECRET=SECRET, **config)
        made.append(SocketManager(app, url_prefix=url_prefix))
        return app

    yield make
    for realtime in made:
        realtime.close()


def ask(node: Node, path: str, bearer: str | None = None, tenant: str | None = None) -> requests.Response:
    headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    headers |= {"X-Tenant-Id": tenant} if tenant else {}
    return requests.post(f"{node.url}/console/{path}", headers=headers, timeout=10)


def test_the_root_leads_to_the_page_and_all_that_it_names_is_there(single_node: Node) -> None:
    page = requests.get(single_node.url, timeout=10)
    assert page.url == single_node.url + "/console/" and page.headers["Content-Type"].startswith("text/html")
    for name in ("app.js", "page.css", "panels.css", "icon.svg"):
        answer = requests.get(f"{page.url}static/{name}", timeout=10)
        assert answer.status_code == 200 and answer.headers["Cache-Control"] == "no-cache"
        again = requests.get(answer.url, headers={"If-None-Match": answer.headers["ETag"]}, timeout=10)
        assert again.status_code == 304
    for file in vendored.FILES:
        assert requests.get(f"{page.url}vendor/{file.name}", timeout=10).status_code == 200


@pytest.mark.parametrize("path", ["", "static/app.js", "static/none.js", "vendor/preact.js"])
def test_the_policy_is_on_every_answer(single_node: Node, path: str) -> None:
    answer = requests.get(f"{single_node.url}/console/{path}", timeout=10)
    assert answer.headers["Content-Security-Policy"] == POLICY
    assert answer.headers["X-Content-Type-Options"] == "nosniff" and answer.headers["Referrer-Policy"] == "no-referrer"
    assert "unsafe" not in POLICY and "default-src 'none'" in POLICY and "require-trusted-types-for 'script'" in POLICY


def test_the_stock_client_is_where_nodes_server_has_it(single_node: Node) -> None:
    for name in vendored.CLIENT_FILES:
        answer = requests.get(f"{single_node.url}/socket.io/{name}", timeout=10)
        assert answer.status_code == 200 and answer.headers["Content-Type"].startswith("text/javascript"), name
        assert "Socket.IO v4." in answer.text


def test_who_has_no_token_is_anonymous_where_anybody_may(single_node: Node) -> None:
    who = ask(single_node, "session").json()
    assert who["anonymous"] and who["tenant"] == "default" and "logs:clear" not in who["scope"]
    assert (who["socketPath"], who["api"]) == ("/socket.io", "/api/v1")


def test_a_token_says_who_one_is(closed_node: Node) -> None:
    assert ask(closed_node, "session").json()["error"]["code"] == "authentication_required"
    assert ask(closed_node, "session", "nonsense").status_code == 401
    two = token(tenants=["acme", "globex"], scope="logs:read admin")
    assert ask(closed_node, "session", two).json()["error"]["code"] == "tenant_required"
    who = ask(closed_node, "session", two, "globex").json()
    assert (who["userId"], who["tenant"], who["scope"]) == ("ann", "globex", ["admin", "logs:read"])
    assert "session" not in who, "the page keeps the token itself"
    assert ask(closed_node, "ticket", two, "globex").status_code == 401


def test_a_ticket_is_exchanged_once_for_a_session_that_opens_nothing_but_tickets(
    closed_node: Node, new_tenant: Callable[[Node], Tenant]
) -> None:
    tenant = new_tenant(closed_node)
    ticket = tenant.http("POST", "/tickets").json()["ticket"]
    session = ask(closed_node, "session", ticket).json()["session"]
    assert ask(closed_node, "session", ticket).status_code == 401, "the ticket is spent"
    assert ask(closed_node, "session", session).json()["userId"] == "ann"
    as_bearer = {"headers": {"Authorization": f"Bearer {session}"}}
    assert tenant.http("GET", "/logs", **as_bearer).status_code == 401
    for _ in range(2):
        fresh = ask(closed_node, "ticket", session).json()["ticket"]
        as_bearer = {"headers": {"Authorization": f"Bearer {fresh}"}}
        assert tenant.http("GET", "/logs", **as_bearer).status_code == 200
    # Not its last letter: of that some bits count for nothing.
    other = session[:9] + ("b" if session[9] == "a" else "a") + session[10:]
    assert ask(closed_node, "ticket", other).status_code == 401
    assert ask(closed_node, "ticket", session, "another").json()["error"]["code"] == "tenant_denied"


def test_a_revoked_user_gets_no_more_tickets(closed_node: Node, new_tenant: Callable[[Node], Tenant]) -> None:
    tenant = new_tenant(closed_node)
    session = ask(closed_node, "session", tenant.http("POST", "/tickets").json()["ticket"]).json()["session"]
    admin = {"headers": {"Authorization": f"Bearer {tenant.token('root', scope='admin')}"}}
    assert tenant.http("POST", "/revocations", {"userId": "ann"}, **admin).status_code == 202
    assert ask(closed_node, "ticket", session).json()["error"]["code"] == "authentication_failed"


def test_the_command_prints_an_address_that_signs_in(closed_node: Node) -> None:
    done = run("console", "--url", closed_node.url, "--tenant", "acme")
    assert done.returncode == 0, done.stderr
    address, _, ticket = done.stdout.strip().partition("#ticket=")
    assert address == closed_node.url + "/console/" and "once" in done.stderr
    who = ask(closed_node, "session", ticket).json()
    assert who["tenant"] == "acme" and "admin" in who["scope"] and "logs:clear" in who["scope"]


def test_the_command_says_what_is_missing() -> None:
    done = run("console", JWT_SECRET="", SOCKET_AUTH_REQUIRED="false")
    assert done.stdout == "http://127.0.0.1:3000/console/\n" and "TICKET_SECRET" in done.stderr
    done = run("console", CONSOLE="false")
    assert done.returncode == 1 and done.stderr.startswith("Error: CONSOLE is false")


def test_a_setting_leaves_it_out(new_app: Callable[..., Flask]) -> None:
    with new_app(MINTFLOW_CONSOLE=False).test_client() as client:
        assert client.get("/console/").status_code == 404
        assert "Socket.IO" in client.get("/socket.io/socket.io.js", buffered=True).text


def test_a_prefix_goes_before_it(new_app: Callable[..., Flask]) -> None:
    with new_app("/live").test_client() as client:
        assert client.get("/live/console").headers["Location"] == "/live/console/"
        assert "static/app.js" in client.get("/live/console/", buffered=True).text
        assert client.post("/live/console/session").json["api"] == "/live/api/v1"


def test_a_checkout_without_node_says_what_to_do(new_app: Callable[..., Flask], monkeypatch: Any) -> None:
    monkeypatch.setattr(files, "FOLDER", ROOT / "nowhere")
    monkeypatch.setattr(files, "is_complete", lambda: False)
    with new_app().test_client() as client:
        page = client.get("/console/", buffered=True)
        assert page.status_code == 200 and "make setup" in page.text
        client_file = client.get("/socket.io/socket.io.js")
        assert client_file.status_code == 404 and "make setup" in client_file.text


def test_the_page_is_made_of_short_files_that_read_nothing_as_html() -> None:
    sources = [*Path(files.STATIC).rglob("*.js")]
    assert len(sources) > 20
    for path in sources:
        text = path.read_text()
        assert len(text.splitlines()) < 250, path.name
        for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
            assert way not in text, f"{path.name} has {way}"
