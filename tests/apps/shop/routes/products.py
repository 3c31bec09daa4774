"""What can be bought."""

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue
from sqlalchemy import select

from auth.login import current_user
from models import Product, db
from protocol.forms import OrderForm

products = Blueprint("products", __name__)


@products.get("/")
def index() -> ResponseReturnValue:
    found = db.scalars(select(Product).order_by(Product.name))
    return render_template("products.html", products=found, user=current_user(), form=OrderForm())
