"""This project's server, whole, with the bench's namespace beside its own."""

from bench.servers.namespace import BenchNamespace
from server import SocketManager, create_app

realtime: SocketManager = create_app().extensions["mintflow"]
realtime.register_namespace(BenchNamespace(), authenticate=False)
application = realtime.wsgi_app
