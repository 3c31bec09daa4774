"""What only the staff sees."""

from flask import Blueprint, abort, jsonify, render_template
from flask.typing import ResponseReturnValue

from auth.login import staff_required
from namespaces.orders import announce, customer_room
from protocol.objects import order_object
from services.orders import latest_orders, ship_order

admin = Blueprint("admin", __name__, url_prefix="/admin")


@admin.get("")
@staff_required
def index() -> ResponseReturnValue:
    return render_template("admin.html", orders=[order_object(order) for order in latest_orders()])


@admin.post("/orders/<int:order_id>/ship")
@staff_required
def ship(order_id: int) -> ResponseReturnValue:
    order = ship_order(order_id)
    if order is None:
        abort(404)
    announce("order_shipped", order, customer_room(order.user_id))
    return jsonify(order_object(order))
