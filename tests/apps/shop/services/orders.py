"""Orders: placed while there is stock, then shipped."""

from collections.abc import Sequence

from sqlalchemy import select, update

from models import Order, Product, User, db


class OutOfStock(Exception):
    """There is less of it than was ordered."""


def place_order(user: User, product_id: int, quantity: int) -> Order:
    """Take `quantity` from the stock. Raises OutOfStock."""
    enough = (Product.id == product_id, Product.stock >= quantity)
    taken = db.execute(update(Product).where(*enough).values(stock=Product.stock - quantity))
    if not taken.rowcount:
        db.rollback()
        raise OutOfStock
    order = Order(user_id=user.id, product_id=product_id, quantity=quantity)
    db.add(order)
    db.commit()
    return order


def ship_order(order_id: int) -> Order | None:
    """Return the order, shipped; None where there is no such order to ship."""
    order = db.get(Order, order_id)
    if order is None or order.status != "placed":
        return None
    order.status = "shipped"
    db.commit()
    return order


def orders_of(user_id: int, limit: int = 20) -> Sequence[Order]:
    """Return a user's latest orders, newest first."""
    return db.scalars(select(Order).where(Order.user_id == user_id).order_by(Order.id.desc()).limit(limit)).all()


def latest_orders(limit: int = 50) -> Sequence[Order]:
    return db.scalars(select(Order).order_by(Order.id.desc()).limit(limit)).all()
