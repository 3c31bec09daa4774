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

from auth.principal import Principal
from namespaces.clients import Client, Clients
from protocol.errors import Internal, InvalidPayload, RateLimited, RealtimeError, TokenExpired, UnknownEvent
from protocol.session import AuthRefresh, AuthRefreshed
from protocol.times import iso
from protocol.validation import mistyped

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


class Desk(Protocol):
    """What the frame needs of the node: its clients, the refreshing of tokens, and the end of an answer."""

    clients: Clients

    def refresh(self, client: Client, token: str) -> Principal:
        """Let a client go on under a newer token."""
        ...

    def settle(self, client: Client) -> None:
        """Hear that a command is done, before it is answered."""
        ...

    def tell(self, client: Client, event: str, payload: Any) -> None:
        """Send an event to one client."""
        ...

    def answered(self, sid: str, namespace: str) -> None:
        """Hear that a command's answer was sent."""
        ...


class _Marked:
    """The reply to a client that recovers: an event goes the way of all its events, with an offset."""

    __slots__ = ("acked", "ack", "_client", "_desk")

    def __init__(self, reply: Reply, client: Client, desk: Desk) -> None:
        self.acked, self.ack = reply.acked, reply.ack
        self._client, self._desk = client, desk

    def emit(self, event: str, value: Any) -> None:
        self._desk.tell(self._client, event, value)


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
    desk: Desk
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
        principal = self.desk.refresh(client, command.token)
        return AuthRefreshed(iso(round((principal.expires_at or 0) * 1000)))

    # The frame

    def respond(self, sid: str, event: str, args: list[Any], reply: Reply) -> None:
        """Run a command and answer it: by its ack if one was asked for, else by an event. Never raises."""
        client = self.desk.clients.get(sid, self.namespace)
        if client is None:
            return
        client.busy = True
        if client.session is not None:
            reply = _Marked(reply, client, self.desk)
        try:
            if not self.desk.clients.spend(client):
                raise RateLimited("Too many commands; wait a moment")
            message, attribute, answer = self._command(event)
            value = getattr(self, attribute)(client, self._read(client, event, message, args))
            # A worker that is killed right after the answer must not have known it alone.
            self.desk.settle(client)
            self._answer(reply, answer, value)
        except RealtimeError as error:
            self._refuse(reply, event, error)
        except Exception:
            # A client that left in the middle has no rooms to enter any more; nobody is left to answer.
            if self.desk.clients.get(sid, self.namespace) is client:
                self._refuse(reply, event, _internal(event))
        finally:
            client.busy = False
            if self.desk.clients.get(sid, self.namespace) is client:
                self.desk.answered(sid, self.namespace)

    def busy(self, reply: Reply, event: str) -> None:
        """Answer a command that the full inbox didn't take."""
        self._refuse(reply, event, RateLimited("Too many commands wait for their answer"))

    def _command(self, event: str) -> tuple[Any, str, str]:
        try:
            return self._commands[event]
        except KeyError:
            raise UnknownEvent(f"{event[:MAX_NAME]} is not a command of {self.namespace}") from None

    def _read(self, client: Client, event: str, message: Any, args: list[Any]) -> Any:
        if client.principal.expired(time.time()) and message is not AuthRefresh:
            raise TokenExpired("The token has ended")
        if len(args) > 1:
            raise InvalidPayload(f"{event} takes one payload, not {len(args)}")
        payload = args[0] if args and args[0] is not None else {}
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
    _log.exception("the handler of %s failed", event, extra={"correlation_id": correlation_id})
    return Internal("Something went wrong here", correlationId=correlation_id)
