"""The application factory."""

from typing import Any

import click
from flask import Flask
from flask_wtf import CSRFProtect

from auth.passwords import add_user
from config import Config
from mintflow_realtime import SocketManager
from models import Product, db, init_db
from namespaces.orders import OrdersNamespace
from routes import blueprints

csrf = CSRFProtect()


def create_app(config: object = Config, **overrides: Any) -> Flask:
    app = Flask(__name__)
    app.config.from_object(config)
    app.config.update(overrides)
    init_db(app.config["DATABASE_URL"])
    csrf.init_app(app)
    for blueprint in blueprints:
        app.register_blueprint(blueprint)
    realtime = SocketManager(app)
    realtime.register_namespace(OrdersNamespace("/orders"))

    @app.teardown_appcontext
    def end_of_session(_: BaseException | None) -> None:
        db.remove()

    app.cli.add_command(fill)
    return app


@click.command()
def fill() -> None:
    """Put two users and three products into an empty shop."""
    add_user("ann", "ann's password")
    add_user("sam", "sam's password", is_staff=True)
    db.add_all([Product("Lamp", 4900, 10), Product("Chair", 12900, 4), Product("Table", 39900, 1)])
    db.commit()
