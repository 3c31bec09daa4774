"""The server under the oracle's load: its own, a namespace of the application, and a publisher inside each worker."""

import os
from pathlib import Path

import gevent
import socketio
from flask import Flask

from mintflow_realtime.app.socket_manager import SocketManager
from tests.cluster.oracle.publishers import BOARD, WORKSPACES, publish_steadily, python_door
from tests.integration.apps import measures

app = Flask(__name__)
realtime = SocketManager(app)
realtime.register_namespace(socketio.Namespace(BOARD))
app.register_blueprint(measures.blueprint(realtime))
application = realtime.wsgi_app

if directory := os.environ.get("ORACLE_DIR"):
    gevent.spawn(
        publish_steadily,
        python_door(realtime),
        Path(directory),
        "worker",
        os.environ["ORACLE_TENANTS"].split(","),
        ("/logs", "/flows", WORKSPACES, BOARD),
        float(os.environ["ORACLE_RATE"]),
    )
