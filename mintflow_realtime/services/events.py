"""Events of an application's own namespaces: the durable door that `realtime.publish` and `Emitter.publish` are."""

from typing import Any

from mintflow_realtime.fanout.publish.publisher import Publisher, Repeat, plain_event
from mintflow_realtime.fanout.rooms import own_room, tenant_room
from mintflow_realtime.protocol.envelope import Published
from mintflow_realtime.protocol.errors import InvalidPayload
from mintflow_realtime.protocol.ids import check_tenant

# Their events have services of their own, which keep state and event together.
BUILT_IN = frozenset({"/logs", "/flows", "/workspaces", "/ai"})
_RESERVED = frozenset({"connect", "disconnect", "connect_error", "disconnecting", "newListener", "removeListener"})
MAX_NAME = 128


class Events:
    """Publishes any event to a tenant's clients in a namespace of the application's own."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    def publish(
        self,
        tenant: str,
        namespace: str,
        event: str,
        data: Any,
        room: str | None = None,
        idempotency_key: str | None = None,
    ) -> Published:
        """Publish `event` to all of a tenant's clients in `namespace`, or to those in its room `room` (an id).

        Raises InvalidPayload, TooLarge (1 MB), Conflict, Unavailable.
        """
        check_tenant(tenant, "$.tenant")
        if (
            not isinstance(namespace, str)
            or not namespace.startswith("/")
            or "," in namespace
            or len(namespace) > MAX_NAME
            or namespace in BUILT_IN
        ):
            raise InvalidPayload("Expected a namespace of the application's own, such as /board", "$.namespace")
        if not isinstance(event, str) or not 0 < len(event) <= MAX_NAME or event in _RESERVED:
            raise InvalidPayload("Expected an event's name that the library doesn't reserve", "$.event")
        rooms = (tenant_room(tenant) if room is None else own_room(tenant, room),)
        try:
            written = plain_event(rooms, event, data)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise InvalidPayload(f"Expected what JSON can say: {error}", "$.data") from None
        repeat = Repeat.of(idempotency_key, namespace, event, data, room)
        return self._publisher.publish(tenant, namespace, [written], repeat=repeat)
