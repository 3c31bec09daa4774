"""Flask-WTF's CSRF protection leaves our blueprints alone: no cookie gives a right to what they serve."""

from typing import Any

from flask import Blueprint, current_app


def exempt_from_csrf(blueprint: Blueprint) -> None:
    """Exempt `blueprint` from the application's CSRFProtect, whichever of the two is set up first.

    Its own requests see to it: such functions run before those of before_request.
    """

    def exempt(endpoint: str | None, values: dict[str, Any] | None) -> None:
        protection = current_app.extensions.get("csrf")
        if protection is not None and type(protection).__module__.partition(".")[0] == "flask_wtf":
            protection.exempt(blueprint)

    blueprint.url_value_preprocessor(exempt)
