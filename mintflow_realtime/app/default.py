"""The server without an application of one's own: what a checkout and `mintflow serve` serve."""

from flask import Flask, redirect, request, url_for
from werkzeug import Response

from mintflow_realtime.app.socket_manager import SocketManager
from mintflow_realtime.console import CONSOLE_BLUEPRINT
from mintflow_realtime.settings.settings import Settings


def create_app(settings: Settings | None = None) -> Flask:
    """Return a Flask app with everything in it; `app.extensions["mintflow"]` is its SocketManager."""
    app = Flask("mintflow")
    realtime = SocketManager(app, settings)

    @app.get("/")
    def index() -> Response:
        """Lead to the console; where there is none, say what is where."""
        if realtime.settings.console:
            return redirect(url_for(f"{CONSOLE_BLUEPRINT}.index"))
        here = request.host_url.rstrip("/")
        lines = (
            "MintFlow Realtime",
            f"  sockets   {here}{realtime.settings.socket_path}  (Socket.IO: /logs /flows /workspaces /ai)",
            f"  HTTP API  {here}/api/v1  (with an API key or a token)",
            f"  ready?    {here}/readyz",
        )
        return Response("\n".join(lines) + "\n", mimetype="text/plain")

    return app
