"""The context that handlers of an application run in, by itself: what is opened when, and what is shared."""

import logging
from typing import Any

import pytest
from flask import Flask, current_app, g, has_app_context, has_request_context, request, session
from flask.sessions import SecureCookieSession, SessionInterface
from werkzeug.test import EnvironBuilder

from mintflow_realtime.app.handler_context import HandlerContext, HandshakeSession
from mintflow_realtime.transport.engine_io.environ import ReducedEnviron


class Counting(SessionInterface):
    """Opens sessions that name the request's path, and counts them; `None` for those of /none."""

    opened = 0

    def open_session(self, app: Flask, request: Any) -> SecureCookieSession | None:
        self.opened += 1
        return None if request.path == "/none" else SecureCookieSession({"path": request.path, "n": self.opened})


@pytest.fixture
def app() -> Flask:
    app = Flask("contexts")
    app.session_interface = Counting()
    return app


@pytest.fixture
def context(app: Flask) -> HandlerContext:
    return HandlerContext(app)


def handshake(path: str = "/socket.io/") -> ReducedEnviron:
    return ReducedEnviron(EnvironBuilder(path, headers={"X-Shop": "yes"}).get_environ())


def test_a_session_is_opened_when_it_is_read_and_once_a_connection(app: Flask, context: HandlerContext) -> None:
    one, other = handshake(), handshake()
    for _ in range(3):
        context.run(one, lambda: request.headers["X-Shop"])
    assert app.session_interface.opened == 0
    assert [context.run(one, lambda: dict(session)) for _ in range(3)] == [{"path": "/socket.io/", "n": 1}] * 3
    assert context.session(one)["n"] == 1
    assert context.run(other, lambda: session["n"]) == app.session_interface.opened == 2


def test_a_session_that_the_interface_does_not_open_is_empty(context: HandlerContext) -> None:
    assert context.run(handshake("/none"), lambda: [*session]) == []


def test_a_session_can_not_be_written_to(context: HandlerContext) -> None:
    found = context.session(handshake())
    for write in (
        lambda: found.update(a=1),
        lambda: found.pop("path"),
        lambda: found.setdefault("a", 1),
        lambda: setattr(found, "permanent", True),
        found.clear,
    ):
        with pytest.raises(TypeError, match="can only be read"):
            write()
    assert isinstance(found, HandshakeSession) and found.get("a") is None and not found.permanent


def test_a_handler_has_a_context_and_leaves_none(context: HandlerContext, app: Flask) -> None:
    def handler(*args: Any) -> Any:
        g.mine = True
        return args, current_app._get_current_object() is app, has_request_context()  # type: ignore[attr-defined]

    assert context.run(handshake(), handler, 1, 2) == ((1, 2), True, True)
    assert context.run(None, handler) == ((), True, False), "of a client that is gone nothing is asked"
    assert not has_app_context() and not has_request_context()


def test_what_a_handler_calls_in_turn_shares_its_context(context: HandlerContext, app: Flask) -> None:
    ended: list[Any] = []
    app.teardown_appcontext(lambda error: ended.append(error))

    def outer() -> Any:
        g.mine = "outer"
        inner = context.run(handshake("/inner"), lambda: (g.mine, session["path"]))
        return inner, session["path"], len(ended)

    assert context.run(handshake("/outer"), outer) == (("outer", "/inner"), "/outer", 0)
    assert ended == [None]
    other = HandlerContext(Flask("other"))
    assert context.run(handshake(), lambda: other.run(None, lambda: current_app.name)) == "other"


def test_a_teardown_function_is_given_the_error_and_its_own_is_logged(
    context: HandlerContext, app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    given: list[Any] = []

    @app.teardown_appcontext
    def fail(error: BaseException | None) -> None:
        given.append(error)
        raise RuntimeError("a teardown's own")

    def handler() -> None:
        raise LookupError("a handler's own")

    with caplog.at_level(logging.ERROR):
        assert context.run(handshake(), lambda: "done") == "done"
        with pytest.raises(LookupError):
            context.run(handshake(), handler)
    assert [type(error) for error in given] == [type(None), LookupError]
    assert caplog.text.count("a teardown function of contexts failed") == 2
    assert not has_app_context()
