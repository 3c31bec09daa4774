"""`/orders`: customers see what becomes of their orders, the staff sees all of them."""

from typing import Annotated, Any

import msgspec
from flask import current_app

from mintflow_realtime import Namespace, current_realtime, errors, handles
from models import Order, User, db
from protocol.objects import order_object
from services.orders import orders_of

STAFF = "staff"


def customer_room(user_id: int) -> str:
    return f"customer-{user_id}"


def announce(event: str, order: Order, room: str) -> None:
    """Tell those in `room`. An order is an order, whether anybody was told or not."""
    try:
        current_realtime().publish("shop", "/orders", event, order_object(order), room=room)
    except errors.Unavailable as error:
        current_app.logger.warning("Nobody was told of order %s: %s", order.id, error)


class ListOrders(msgspec.Struct, forbid_unknown_fields=True):
    """`list_orders`: what a page asks first."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=50)] = 20


class OrdersNamespace(Namespace):
    def joined(self, client: Any) -> None:
        user = db.get(User, int(client.principal.user_id))
        room = STAFF if user.is_staff else customer_room(user.id)
        current_realtime().enter_room(client.sid, "/orders", room)

    @handles(ListOrders)
    def list_orders(self, client: Any, command: ListOrders) -> dict[str, Any]:
        # The cookie of the handshake: a page of another site has a ticket at best.
        if "user_id" not in client.session:
            raise errors.Forbidden("This is for who is logged in here")
        return {"orders": [order_object(order) for order in orders_of(client.session["user_id"], command.limit)]}
