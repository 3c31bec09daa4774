"""The Flask extension: realtime for an application, or for several that one factory makes."""

import copy
import os
import re
from collections.abc import Sequence
from typing import Any

import msgspec
import socketio
from flask import Flask, current_app, has_app_context

from mintflow_realtime.app.node import Node
from mintflow_realtime.app.realtime_app import RealtimeApp
from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.auth.tickets import MAX_SESSION_SECONDS, Ticket
from mintflow_realtime.console import CLIENT_BLUEPRINT, CONSOLE_BLUEPRINT
from mintflow_realtime.fanout.rooms import own_room
from mintflow_realtime.namespaces.base import Namespace
from mintflow_realtime.protocol.envelope import Published
from mintflow_realtime.protocol.errors import NotFound
from mintflow_realtime.protocol.nodes import ConnectionPage, ConnectionQuery
from mintflow_realtime.protocol.validation import mistyped
from mintflow_realtime.routes import API_BLUEPRINT, HEALTH_BLUEPRINT, METRICS_BLUEPRINT, SOCKETS_BLUEPRINT
from mintflow_realtime.services.flows import Flows
from mintflow_realtime.services.logs import Logs
from mintflow_realtime.services.workspaces.service import Workspaces
from mintflow_realtime.settings.settings import Settings

EXTENSION = "mintflow"


class SocketManager:
    """Realtime for a Flask app: `SocketManager(app)`, or `init_app(app)` later; then serve `wsgi_app`.

    Settings are `settings`, or read from `app.config["MINTFLOW_<NAME>"]` and the environment. `url_prefix` goes before
    the paths of the HTTP API, the health checks and the console. Raises SettingError, ValueError for another prefix.

    One that has initialised several apps stands for that of the current application context, else for the last;
    `app.extensions["mintflow"]` is always that app's own.
    """

    blueprints = (
        API_BLUEPRINT,
        HEALTH_BLUEPRINT,
        METRICS_BLUEPRINT,
        SOCKETS_BLUEPRINT,
        CLIENT_BLUEPRINT,
        CONSOLE_BLUEPRINT,
    )
    """What `request.blueprint` is in requests for us, which authenticate themselves: for a login guard to let pass."""

    def __init__(self, app: Flask | None = None, settings: Settings | None = None, *, url_prefix: str = "") -> None:
        if url_prefix and not re.fullmatch(r"(/[^/<>]+)+", url_prefix):
            raise ValueError(f"Expected a url_prefix such as '/realtime', not {url_prefix!r}")
        self._given_settings, self._url_prefix = settings, url_prefix
        self._registered: list[tuple[socketio.Namespace, bool]] = []
        # That of each app, by the one that all of them were initialised with.
        self._family = self
        self._realtime_app: RealtimeApp | None = None
        self._several = False
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Add realtime to `app`: the HTTP API, the health checks, and `wsgi_app`, which serves the app and its sockets.

        Nothing is connected to and nothing started. Raises SettingError, RuntimeError where the app has it already.
        """
        if EXTENSION in app.extensions:
            raise RuntimeError(f"The application {app.name} has a SocketManager already")
        settings = self._given_settings or Settings.load(app.config, os.environ)
        realtime_app = RealtimeApp(app, settings, self._url_prefix)
        for namespace, authenticate in self._registered:
            # A namespace belongs to one server: further apps get copies.
            own = namespace if self._realtime_app is None else copy.copy(namespace)
            realtime_app.register(own, authenticate=authenticate)
        if self._realtime_app is None:
            app.extensions[EXTENSION] = self
        else:
            if not self._several:
                first = self._realtime_app.flask_app
                first.extensions[EXTENSION] = self._of(self._realtime_app)
                self._several = True
            app.extensions[EXTENSION] = self._of(realtime_app)
        self._realtime_app = realtime_app

    def register_namespace(self, namespace: socketio.Namespace, *, authenticate: bool = True) -> None:
        """Serve a namespace: one of ours (typed, acked, limited) or any stock `socketio.Namespace`.

        Its handlers run in the application's context. One registered later under the same name replaces the earlier.
        Clients are authenticated first, but where `authenticate` is False, which only a stock namespace can have: else
        ValueError. May be called before `init_app`; raises RuntimeError after the first request.
        """
        if isinstance(namespace, Namespace) and not authenticate:
            raise ValueError("A typed namespace acts for a principal, so its clients are authenticated")
        if self._realtime_app is not None:
            self._bound("register_namespace").register(namespace, authenticate=authenticate)
        self._registered.append((namespace, authenticate))

    @property
    def wsgi_app(self) -> RealtimeApp:
        """The WSGI application to serve. `app.wsgi_app` is looked up by each request, so middleware goes there."""
        return self._bound("wsgi_app")

    @property
    def settings(self) -> Settings:
        """What the application's settings are."""
        return self._bound("settings").settings

    @property
    def server(self) -> socketio.Server:
        """The python-socketio Server: `emit`, `on`, and all else that it has."""
        return self._bound("server").node.sockets

    @property
    def flows(self) -> Flows:
        """Publishes the events of flow runs, and reads runs."""
        return self._bound("flows").node.emitter.flows

    @property
    def logs(self) -> Logs:
        """Appends log records, and reads them."""
        return self._bound("logs").node.emitter.logs

    @property
    def workspaces(self) -> Workspaces:
        """Updates shared workspaces, and reads them."""
        return self._bound("workspaces").node.emitter.workspaces

    def publish(
        self,
        tenant: str,
        namespace: str,
        event: str,
        data: Any,
        room: str | None = None,
        idempotency_key: str | None = None,
    ) -> Published:
        """Publish an event of a namespace of one's own to all of a tenant's clients there, or to those in `room`.

        Raises InvalidPayload, TooLarge (1 MB), Conflict, Unavailable.
        """
        publish = self._bound("publish").node.emitter.publish
        return publish(tenant, namespace, event, data, room, idempotency_key)

    def issue_ticket(
        self,
        user_id: str,
        tenants: Sequence[str],
        scope: str | None = None,
        name: str | None = None,
        session_seconds: float = MAX_SESSION_SECONDS,
    ) -> Ticket:
        """Return a ticket for a user whom the application has authenticated itself.

        It is text that the user's client shows as its token, once, until `ticket.expires_at` (30 s). The connection
        ends after `session_seconds`, at most 3,600. Raises InvalidPayload, AuthenticationError where no secret to sign
        with is set, TooLarge.
        """
        issue = self._bound("issue_ticket").node.access.issue_ticket_for
        return issue(user_id, tenants, scope, name, session_seconds)

    def principal(self, sid: str, namespace: str) -> Principal:
        """Return who a client of this node acts as, for a stock namespace's handlers. Raises NotFound."""
        client = self._node.gate.clients.get(sid, namespace)
        if client is None:
            raise NotFound("There is no such client on this node")
        return client.principal

    def clients(
        self,
        tenant: str | None = None,
        user_id: str | None = None,
        room: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> ConnectionPage:
        """Return who is connected, on all nodes: a page of at most 1,000, from the one after `after` on.

        `page.connections` are those of `tenant` (None: of all), of `user_id` and in `room`, where given; `next_after`
        is what to go on from, unset at the end; `unanswered` are nodes that did not say within a second.
        Raises InvalidPayload, Unavailable.
        """
        given = {"tenant": tenant, "userId": user_id, "room": room, "limit": limit, "after": after}
        try:
            query = msgspec.convert(
                {name: value for name, value in given.items() if value is not None}, ConnectionQuery
            )
        except msgspec.ValidationError as error:
            raise mistyped(error) from None
        # Of whichever tenant: in-process code has every permission.
        return self._bound("clients").node.cluster.connections.page(Principal.system("-"), query)

    def enter_room(self, sid: str, namespace: str, room: str) -> None:
        """Let a client of this node into its tenant's room `room`, which `publish(…, room=room)` reaches.

        Raises Unavailable where the client recovers and Redis doesn't answer.
        """
        principal = self.principal(sid, namespace)
        self._node.manager.enter(sid, namespace, own_room(principal.tenant, room))
        self._settle(sid, namespace)

    def leave_room(self, sid: str, namespace: str, room: str) -> None:
        """Take a client of this node out of its tenant's room `room`."""
        principal = self.principal(sid, namespace)
        self._node.manager.leave(sid, namespace, own_room(principal.tenant, room))
        self._settle(sid, namespace)

    @property
    def dropped(self) -> dict[str, int]:
        """What came over Redis and was ignored since the start, by reason: malformed, oversized, unaddressed."""
        return dict(self._node.manager.dropped + self._node.channels.dropped)

    def start(self) -> None:
        """Begin to receive events; a worker does this, or the first request. Waits at most 2 s for Redis."""
        self._node.start()

    def close(self) -> None:
        """Stop receiving events and close the connections to Redis. Clients' connections are the server's to close."""
        self._node.close()

    @property
    def _node(self) -> Node:
        return self._bound("node").node

    def _settle(self, sid: str, namespace: str) -> None:
        client = self._node.gate.clients.get(sid, namespace)
        if client is not None:
            self._node.gate.save_changes(client)

    def _of(self, realtime_app: RealtimeApp) -> "SocketManager":
        """Return the same for one app alone."""
        own = copy.copy(self)
        own._registered, own._realtime_app, own._several = [*self._registered], realtime_app, False
        return own

    def _bound(self, wanted: str) -> RealtimeApp:
        if self._several and has_app_context():
            own = current_app.extensions.get(EXTENSION)
            if isinstance(own, SocketManager) and own is not self and own._family is self._family:
                return own._bound(wanted)
        if self._realtime_app is None:
            raise RuntimeError(f"SocketManager has no application yet: call init_app(app) before {wanted} is used.")
        return self._realtime_app


def current_realtime() -> SocketManager:
    """Return the SocketManager of the current application context. Raises RuntimeError where there is none."""
    realtime = current_app.extensions.get(EXTENSION)
    if not isinstance(realtime, SocketManager):
        raise RuntimeError(f"The application {current_app.name} has no SocketManager: call init_app(app) first.")
    return realtime
