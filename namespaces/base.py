"""The frame around every handler: it owns each failure, and answers each command exactly once.

A handler is a method with `@handles(Message)`; it takes the client and one message of that type, and returns the
answer. It says no more than what it does: no `try`, no dict, no emit.
"""

import logging
import secrets
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import msgspec
import socketio

from mintflow_realtime import tracing
from mintflow_realtime.admission.clients import Client, Clients
from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.metrics.counting import OTHER
from mintflow_realtime.metrics.series import COMMAND_SECONDS, COMMANDS, FAILURES
from mintflow_realtime.protocol.errors import (
    Internal,
    InvalidPayload,
    RateLimited,
    RealtimeError,
    TokenExpired,
    UnknownEvent,
)
from mintflow_realtime.protocol.session import AuthRefresh, AuthRefreshed
from mintflow_realtime.protocol.times import iso
from mintflow_realtime.protocol.turns import turns
from mintflow_realtime.protocol.validation import mistyped, refuse_bytes, refuse_many_members

# How much of an event's name an answer repeats.
MAX_NAME = 128

_log = logging.getLogger("mintflow.namespaces")

Message = TypeVar("Message")
Handler = TypeVar("Handler", bound=Callable[..., Any])


class Reply(Protocol):
    """How one command is answered."""

    @property
    def acked(self) -> bool: ...

    def ack(self, value: Any) -> None: ...

    def emit(self, event: str, value: Any) -> None: ...


class NamespaceContext(Protocol):
    """What the frame needs of the node: its clients, the refreshing of tokens, and the end of an answer."""

    clients: Clients

    def refresh(self, client: Client, token: str) -> Principal:
        """Let a client go on under a newer token."""
        ...

    def save_changes(self, client: Client) -> None:
        """Note that a command is done, before it is answered."""
        ...

    def rooms_of(self, client: Client) -> list[str]:
        """Return a client's rooms, its own among them."""
        ...

    def restore_rooms(self, client: Client, rooms: list[str]) -> None:
        """Let a client be in `rooms` again, and in no others."""
        ...

    def tell(self, client: Client, event: str, payload: Any) -> None:
        """Send an event to one client."""
        ...

    def answered(self, sid: str, namespace: str) -> None:
        """Note that a command's answer was sent."""
        ...


class _Marked:
    """The reply to a client that recovers: an event goes the way of all its events, with an offset."""

    __slots__ = ("acked", "ack", "_client", "_context")

    def __init__(self, reply: Reply, client: Client, context: NamespaceContext) -> None:
        self.acked, self.ack = reply.acked, reply.ack
        self._client, self._context = client, context

    def emit(self, event: str, value: Any) -> None:
        self._context.tell(self._client, event, value)


def handles(
    message: type[Any], *, name: str | None = None, answer: str | None = None, silent: bool = False
) -> Callable[[Handler], Handler]:
    """Mark a method as the handler of the command of its name.

    `message` is a msgspec Struct. `name` is the command's where the method is called otherwise, `answer` that of the
    event that answers a command sent without an ack; a `silent` command has none, but its errors are told.
    """

    def mark(method: Handler) -> Handler:
        command = name or method.__name__
        method.command = (message, command, "" if silent else answer or command)  # type: ignore[attr-defined]
        return method

    return mark


class Namespace(socketio.Namespace):  # type: ignore[misc]
    """A typed namespace: its commands are those of its `@handles` methods, and `auth_refresh`.

    `read_scope` is the permission without which nobody connects; None lets every authenticated client in.
    """

    read_scope: str | None = None
    # Whether its commands change nothing of a client but its rooms: what is refused is then undone.
    only_subscribes: bool = False
    context: NamespaceContext
    _commands: dict[str, tuple[Any, str, str]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        marked = {attribute: getattr(cls, attribute) for attribute in dir(cls)}
        cls._commands = {
            value.command[1]: (value.command[0], attribute, value.command[2])
            for attribute, value in marked.items()
            if callable(value) and hasattr(value, "command")
        }

    def joined(self, client: Client) -> None:
        """Enter the rooms of a newly connected client; its tenant's own is entered already."""

    def left(self, client: Client) -> None:
        """Let go of what a client held that is gone; its rooms are left already."""

    def recovered(self, client: Client, memo: str) -> None:
        """Take up again a client that is back, perhaps from another node; it is in its rooms. `joined` isn't called.

        `memo` is what the namespace kept with its session.
        """

    def memo(self, client: Client) -> str:
        """Return what to keep with a client's session beside its rooms; asked for whenever these change."""
        return ""

    def away(self, client: Client) -> None:
        """Let go of a client whose connection ended and that may come back, here or elsewhere."""
        self.left(client)

    def moved(self, client: Client) -> None:
        """Let go of a client that is on another connection already, and say nothing of it."""
        self.left(client)

    @handles(AuthRefresh)
    def auth_refresh(self, client: Client, command: AuthRefresh) -> AuthRefreshed:
        principal = self.context.refresh(client, command.token)
        return AuthRefreshed(iso(round((principal.expires_at or 0) * 1000)))

    # The frame

    def respond(self, sid: str, event: str, args: list[Any], reply: Reply, *, binary: bool = False) -> None:
        """Run a command and answer it: by its ack if one was asked for, else by an event. Never raises.

        `binary` says that the event came with attachments.
        """
        if not tracing.on:
            self._respond(sid, event, args, reply, binary)
            return
        name = event if event in self._commands else OTHER
        attributes = {"rpc.system": "socket.io", "rpc.service": self.namespace, "rpc.method": name}
        with tracing.serving(f"{self.namespace} {name}", attributes):
            self._respond(sid, event, args, reply, binary)

    def _respond(self, sid: str, event: str, args: list[Any], reply: Reply, binary: bool) -> None:
        client = self.context.clients.get(sid, self.namespace)
        if client is None:
            return
        client.busy = True
        began, code = time.monotonic(), "ok"
        if client.recovery is not None:
            reply = _Marked(reply, client, self.context)
        try:
            message, attribute, answer = self._command(event)
            rooms = self.context.rooms_of(client) if self.only_subscribes and client.recovery is not None else None
            value = getattr(self, attribute)(client, self._read(client, event, message, args, binary))
            try:
                # A worker that is killed right after the answer must not have known it alone.
                self.context.save_changes(client)
            except RealtimeError:
                if rooms is not None:
                    self.context.restore_rooms(client, rooms)
                raise
            self._answer(reply, answer, value)
        except RealtimeError as error:
            code = error.code
            self._refuse(reply, event, error)
        except Exception:
            code = Internal.code
            # A client that left in the middle has no rooms to enter any more; nobody is left to answer.
            if self.context.clients.get(sid, self.namespace) is client:
                self._refuse(reply, event, _internal(event))
        finally:
            client.busy = False
            name = event if event in self._commands else OTHER
            COMMANDS.add(self.namespace, name, code)
            if code != "ok":
                tracing.failed(code)
            COMMAND_SECONDS.observe(time.monotonic() - began, self.namespace, name)
            if self.context.clients.get(sid, self.namespace) is client:
                self.context.answered(sid, self.namespace)

    def busy(self, reply: Reply, event: str) -> None:
        """Answer a command of a connection that goes on above the limit; nothing of it was read but its name."""
        COMMANDS.add(self.namespace, event if event in self._commands else OTHER, RateLimited.code)
        self._refuse(reply, event, RateLimited("Too many commands for too long; wait a moment"))

    def _command(self, event: str) -> tuple[Any, str, str]:
        try:
            return self._commands[event]
        except KeyError:
            raise UnknownEvent(f"{event[:MAX_NAME]} is not a command of {self.namespace}") from None

    def _read(self, client: Client, event: str, message: Any, args: list[Any], binary: bool) -> Any:
        if client.principal.expired(time.time()) and message is not AuthRefresh:
            raise TokenExpired("The token has ended")
        if len(args) > 1:
            raise InvalidPayload(f"{event} takes one payload, not {len(args)}")
        payload = args[0] if args and args[0] is not None else {}
        refuse_many_members(payload)
        if binary:
            with turns.work() as pause:
                refuse_bytes(payload, pause)
        try:
            return msgspec.convert(payload, message)
        except msgspec.ValidationError as error:
            raise mistyped(error) from None
        except (RecursionError, TypeError, ValueError) as error:
            raise InvalidPayload(f"The payload can't be read: {type(error).__name__}") from None

    def _answer(self, reply: Reply, answer: str, value: Any) -> None:
        if reply.acked:
            reply.ack({"ok": True, "data": value})
        elif answer:
            reply.emit(answer, value)

    def _refuse(self, reply: Reply, event: str, error: RealtimeError) -> None:
        if reply.acked:
            reply.ack({"ok": False, "error": error.to_wire()})
        else:
            reply.emit("error", {"event": event[:MAX_NAME], **error.to_wire()})


class RootNamespace(Namespace):
    """`/`: accepts authenticated clients and has no commands."""


def _internal(event: str) -> Internal:
    correlation_id = secrets.token_hex(8)
    FAILURES.add("command")
    _log.exception("the handler of %s failed", event, extra={"correlation_id": correlation_id})
    return Internal("Something went wrong here", correlationId=correlation_id)
