"""An application that says where a request comes from."""

from flask import Flask, request

from mintflow_realtime.app.socket_manager import SocketManager

app = Flask(__name__)
realtime = SocketManager(app)
application = realtime.wsgi_app


@app.get("/remote")
def remote() -> str:
    return str(request.remote_addr)
