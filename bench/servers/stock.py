"""Stock python-socketio; with `REDIS_URL` on its RedisManager."""

import os

import socketio

from bench.servers.namespace import BenchNamespace

_url = os.environ.get("REDIS_URL")
server = socketio.Server(
    async_mode="gevent",
    cors_allowed_origins="*",
    client_manager=socketio.RedisManager(_url) if _url else None,
)
server.register_namespace(BenchNamespace())
application = socketio.WSGIApp(server)
