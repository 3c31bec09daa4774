"""What a process answers where sockets are asked for and it serves none: 503, and one sentence in the log."""

import json
import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any

from flask import Blueprint, Flask, Response

from mintflow_realtime.routes import SOCKETS_BLUEPRINT

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_BODY = json.dumps(
    {"error": {"code": "unavailable", "message": "This process serves no sockets", "retryable": True}}
).encode()
_HEADERS = [
    ("Content-Type", "application/json"),
    ("Content-Length", str(len(_BODY))),
    ("Cache-Control", "no-store"),
    ("Retry-After", "5"),
]

_log = logging.getLogger("mintflow.sockets")


class Unserved:
    """Refuses requests for sockets, and says once how they are served."""

    def __init__(self, app: Flask) -> None:
        self._sentence = (
            "A client asked for sockets, which this server's workers can't serve: run "
            f"`gunicorn -c python:mintflow_realtime.app.gunicorn {app.name}:application` or "
            f"`mintflow serve {app.name}:application`."
        )
        self._unsaid = True
        self._saying = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request, as a WSGI application."""
        self.say()
        start_response("503 Service Unavailable", _HEADERS)
        return [_BODY]

    def say(self) -> None:
        """Log the sentence, once."""
        with self._saying:
            unsaid, self._unsaid = self._unsaid, False
        if unsaid:
            _log.warning(self._sentence)

    def blueprint(self, socket_path: str) -> Blueprint:
        """Return the view for servers that call the Flask application itself, as `flask run` does."""

        def refuse() -> Response:
            self.say()
            return Response(_BODY, 503, _HEADERS)

        sockets = Blueprint(SOCKETS_BLUEPRINT, __name__)
        for name, path in (("sockets", socket_path), ("sockets_slash", socket_path + "/")):
            sockets.add_url_rule(path, name, refuse, methods=_METHODS, provide_automatic_options=False)
        return sockets
