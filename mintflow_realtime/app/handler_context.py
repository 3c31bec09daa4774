"""Handlers of an application's own namespaces run in its context: `current_app`, `g`, and the handshake's session.

What is built in runs without: it needs none of that, and should not pay for it.
"""

import logging
from collections.abc import Callable, Iterator, MutableMapping
from functools import cached_property, wraps
from types import MethodType
from typing import Any, NoReturn

import socketio
from flask import Flask, appcontext_popped, appcontext_pushed, appcontext_tearing_down
from flask.ctx import AppContext
from flask.globals import _cv_app, _cv_request
from flask.sessions import SessionMixin

from mintflow_realtime.admission.clients import NO_SESSION
from mintflow_realtime.namespaces.base import Namespace
from mintflow_realtime.transport.socket_io.server import SocketServer

# Where a connection keeps its session among what is left of its handshake.
_KEY = "mintflow.session"
# What the node calls a typed namespace for, beside its commands; the client is the first argument.
_HOOKS = ("joined", "left", "recovered", "away", "moved", "memo", "instead")

_log = logging.getLogger("mintflow.handlers")

Environ = MutableMapping[str, Any]


class HandshakeSession(SessionMixin):
    """The session that the handshake's cookie names, opened when it is first read; it can't be written to.

    A cookie is set by the answer to a request, and an event has none.
    """

    accessed = False
    modified = False

    def __init__(self, app: Flask, environ: Environ) -> None:
        self._app, self._environ = app, environ

    def _read(self) -> MutableMapping[str, Any]:
        # Kept with the handshake, once for all namespaces of a connection.
        opened: MutableMapping[str, Any] | None = self._environ.get(_KEY)
        if opened is None:
            interface = self._app.session_interface
            opened = interface.open_session(self._app, self._app.request_class(_copied(self._environ)))
            if opened is None:
                opened = interface.make_null_session(self._app)
            self._environ[_KEY] = opened
        return opened

    def __getitem__(self, name: str) -> Any:
        return self._read()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def _refuse(self, *_: object) -> NoReturn:
        raise TypeError(
            "The session of a handshake can only be read: change it in a view, whose answer sets its cookie"
        )

    __setitem__ = __delitem__ = _refuse


class Handshake:
    """What stands for a request's context in a handler: `flask.session` and `flask.request` are the handshake's.

    Flask's own would be built for each event, which costs 50 µs; this one is where something of it is asked for.
    """

    __slots__ = ("_app", "_environ", "_context")

    def __init__(self, app: Flask, environ: Environ) -> None:
        self._app, self._environ = app, environ
        self._context: Any = None

    @property
    def session(self) -> HandshakeSession:
        """The session, to read."""
        return HandshakeSession(self._app, self._environ)

    def __getattr__(self, name: str) -> Any:
        if self._context is None:
            self._context = self._app.request_context(_copied(self._environ))
        return getattr(self._context, name)


class EventContext(AppContext):
    """An application context for one event: Flask's own makes a URL adapter each time, which hardly any handler asks
    for.
    """

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.g = app.app_ctx_globals_class()
        self._cv_tokens = []

    @cached_property
    def url_adapter(self) -> Any:  # type: ignore[override]
        """What `url_for` needs."""
        return self.app.create_url_adapter(None)


class HandlerContext:
    """Runs handlers in an application's context: each with a new `g`, and with teardown functions at its end.

    Functions of before_request, after_request and teardown_request don't run: nothing is requested.
    """

    def __init__(self, app: Flask) -> None:
        self._app = app
        kind = type(app)
        self._is_flasks_own = (
            kind.app_context is Flask.app_context and kind.do_teardown_appcontext is Flask.do_teardown_appcontext
        )

    def run(self, environ: Environ | None, handler: Callable[..., Any], *args: Any) -> Any:
        """Return what `handler` does; without `environ`, as of a client that is gone, there is no session."""
        app, outer = self._app, _cv_app.get(None)
        token = None if environ is None else _cv_request.set(Handshake(app, environ))  # type: ignore[arg-type]
        try:
            if outer is not None and outer.app is app:
                # As in a request: what a handler calls in turn, such as a disconnect handler, shares its context.
                return handler(*args)
            if (
                app.teardown_appcontext_funcs
                or appcontext_pushed.receivers
                or appcontext_tearing_down.receivers
                or appcontext_popped.receivers
                or not self._is_flasks_own
            ):
                return self._run_watched(handler, args)
            # What Flask does where nobody is to be told of it, without looking for somebody four times.
            pushed = _cv_app.set(EventContext(app))
            try:
                return handler(*args)
            finally:
                _cv_app.reset(pushed)
        finally:
            if token is not None:
                _cv_request.reset(token)

    def _run_watched(self, handler: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        context = self._app.app_context()
        context.push()
        failure: BaseException | None = None
        try:
            return handler(*args)
        except BaseException as error:
            failure = error
            raise
        finally:
            self._leave(context, failure)
            del failure

    def session(self, environ: Environ) -> HandshakeSession:
        """Return the session of a connection's handshake; nothing is opened before it is read."""
        return HandshakeSession(self._app, environ)

    def _leave(self, context: AppContext, failure: BaseException | None) -> None:
        try:
            context.pop(failure)
        except Exception:
            # The handler has done its work, and its answer is its own.
            _log.exception("a teardown function of %s failed", self._app.name)


def _copied(environ: Any) -> dict[str, Any]:
    copied: dict[str, Any] = environ.copy()
    copied.pop(_KEY, None)
    return copied


def run_in_context(namespace: socketio.Namespace, context: HandlerContext, server: "ApplicationServer") -> None:
    """Let every handler of an application's own namespace run in its context."""
    if not isinstance(namespace, Namespace):
        namespace.trigger_event = _stock(namespace, _method(namespace, "trigger_event"), context, server)
        return
    commands = {attribute for _, attribute, _ in namespace._commands.values()} - {"auth_refresh"}
    hooks = {name for name in _HOOKS if getattr(type(namespace), name, None) is not getattr(Namespace, name, None)}
    for attribute in commands | hooks:
        setattr(namespace, attribute, _typed(_method(namespace, attribute), context, server))


def _method(namespace: socketio.Namespace, name: str) -> Callable[..., Any]:
    # Its class's: on the copy of a namespace of another application stands what this replaces.
    return MethodType(getattr(type(namespace), name), namespace)


def _stock(
    namespace: socketio.Namespace,
    trigger_event: Callable[..., Any],
    context: HandlerContext,
    server: "ApplicationServer",
) -> Callable[..., Any]:
    @wraps(trigger_event)
    def trigger(event: str, sid: str, *args: Any) -> Any:
        return context.run(server.get_environ(sid, namespace.namespace), trigger_event, event, sid, *args)

    return trigger


def _typed(method: Callable[..., Any], context: HandlerContext, server: "ApplicationServer") -> Callable[..., Any]:
    @wraps(method)
    def call(client: Any, *args: Any) -> Any:
        environ = server.environ.get(client.connection)
        if environ is not None and client.session is NO_SESSION:
            client.session = context.session(environ)
        return context.run(environ, method, client, *args)

    return call


class ApplicationServer(SocketServer):
    """The Socket.IO server of one application: functions that it registers as handlers run in `context` too."""

    context: HandlerContext | None = None

    def _trigger_event(self, event: str, namespace: str, *args: Any) -> Any:
        if self.context is None or not self.handlers or self._get_event_handler(event, namespace, args)[0] is None:
            return super()._trigger_event(event, namespace, *args)
        trigger_event = super()._trigger_event
        return self.context.run(self.get_environ(args[0], namespace), trigger_event, event, namespace, *args)
