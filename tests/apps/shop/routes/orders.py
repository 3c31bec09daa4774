"""Orders of who is logged in."""

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from auth.login import current_user, login_required
from namespaces.orders import STAFF, announce
from protocol.forms import OrderForm
from protocol.objects import order_object
from services.orders import OutOfStock, orders_of, place_order

orders = Blueprint("orders", __name__, url_prefix="/orders")


@orders.get("")
@login_required
def list_orders() -> ResponseReturnValue:
    return jsonify(orders=[order_object(order) for order in orders_of(current_user().id)])


@orders.post("")
@login_required
def add_order() -> ResponseReturnValue:
    form = OrderForm()
    if not form.validate_on_submit():
        return jsonify(errors=form.errors), 400
    try:
        order = place_order(current_user(), form.product_id.data, form.quantity.data)
    except OutOfStock:
        return jsonify(errors={"quantity": ["There is not enough of it."]}), 409
    announce("order_placed", order, STAFF)
    return jsonify(order_object(order)), 201
