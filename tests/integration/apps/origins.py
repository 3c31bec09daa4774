"""A server whose own function says which origins may ask, beside a view of the application's."""

from flask import Flask, abort, request

from mintflow_realtime.app.socket_manager import SocketManager

app = Flask(__name__)
app.config["MINTFLOW_SOCKET_CORS_ORIGIN"] = lambda origin: origin.startswith("https://good.")
realtime = SocketManager(app)


@app.before_request
def limit() -> None:
    """Stand for an application's own limiter."""
    if "limited" in request.args:
        abort(429)


application = realtime.wsgi_app
