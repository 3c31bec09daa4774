"""What visitors get, as JSON."""

from typing import Any

from models import Order


def order_object(order: Order) -> dict[str, Any]:
    return {
        "orderId": order.id,
        "customer": order.user.name,
        "product": order.product.name,
        "quantity": order.quantity,
        "cents": order.quantity * order.product.cents,
        "status": order.status,
    }
