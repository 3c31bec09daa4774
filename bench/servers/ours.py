"""This project's server, whole, with the bench's namespace beside its own."""

from bench.servers.namespace import BenchNamespace
from mintflow_realtime.app.socket_manager import SocketManager
from server import create_app

realtime: SocketManager = create_app().extensions["mintflow"]
realtime.register_namespace(BenchNamespace(), authenticate=False)
application = realtime.wsgi_app
