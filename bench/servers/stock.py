"""Stock python-socketio."""

import socketio

from bench.servers.namespace import BenchNamespace

server = socketio.Server(async_mode="gevent", cors_allowed_origins="*")
server.register_namespace(BenchNamespace())
application = socketio.WSGIApp(server)
