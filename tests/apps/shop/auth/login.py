"""Login by a session cookie."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from flask import abort, g, redirect, session, url_for
from flask.typing import ResponseReturnValue

from models import User, db


def current_user() -> User | None:
    """Return who is logged in."""
    if "user" not in g:
        g.user = db.get(User, session["user_id"]) if "user_id" in session else None
    return g.user


def log_in(user: User) -> None:
    session.clear()
    session["user_id"] = user.id


def login_required(view: Callable[..., ResponseReturnValue]) -> Callable[..., ResponseReturnValue]:
    @wraps(view)
    def guarded(*args: Any, **values: Any) -> ResponseReturnValue:
        return view(*args, **values) if current_user() else redirect(url_for("account.login"))

    return guarded


def staff_required(view: Callable[..., ResponseReturnValue]) -> Callable[..., ResponseReturnValue]:
    @wraps(view)
    @login_required
    def guarded(*args: Any, **values: Any) -> ResponseReturnValue:
        if not current_user().is_staff:
            abort(403)
        return view(*args, **values)

    return guarded
