"""Login and logout."""

from flask import Blueprint, flash, jsonify, redirect, render_template, session, url_for
from flask.typing import ResponseReturnValue

from auth.login import current_user, log_in, login_required
from auth.passwords import find_user
from mintflow_realtime import current_realtime
from protocol.forms import LoginForm

account = Blueprint("account", __name__)


@account.route("/login", methods=["GET", "POST"])
def login() -> ResponseReturnValue:
    form = LoginForm()
    if form.validate_on_submit():
        user = find_user(form.name.data, form.password.data)
        if user:
            log_in(user)
            return redirect(url_for("products.index"))
        flash("No such name and password.")
    return render_template("login.html", form=form)


@account.post("/logout")
def logout() -> ResponseReturnValue:
    session.clear()
    return redirect(url_for("products.index"))


@account.post("/ticket")
@login_required
def ticket() -> ResponseReturnValue:
    """Let a page of who is logged in connect: to /orders, and to no namespace of the house."""
    user = current_user()
    return jsonify(ticket=current_realtime().issue_ticket(str(user.id), ["shop"], scope="", name=user.name))
