"""The server with /ai, its times shorter where the environment says so."""

import gc
import os
from typing import Any

import gevent
import greenlet
from flask import Flask, jsonify

from mintflow_realtime.ai_backends.base import Backend
from mintflow_realtime.ai_backends.choice import choose
from mintflow_realtime.ai_backends.echo import EchoBackend
from mintflow_realtime.app.socket_manager import SocketManager
from mintflow_realtime.namespaces.ai import AiNamespace
from mintflow_realtime.protocol.scripts import Keys
from mintflow_realtime.services.ai.limits import Limits
from mintflow_realtime.services.ai.service import Ai
from mintflow_realtime.stores.ai.store import AiStore


def seconds(name: str, default: float) -> float:
    return float(os.environ.get(f"TEST_{name}", default))


def backend() -> Backend | None:
    if os.environ.get("AI_BACKEND") == "echo":
        return EchoBackend(seconds("PACE", 0.05))
    return choose(
        os.environ.get("AI_BACKEND", ""),
        api_key=os.environ.get("OPENAI_API_KEY"),
        base_url=os.environ.get("OPENAI_BASE_URL"),
        default_model=os.environ.get("OPENAI_DEFAULT_MODEL", ""),
        system_prompt=os.environ.get("OPENAI_SYSTEM_PROMPT", ""),
    )


app = Flask(__name__)
realtime = SocketManager(app)
ai = Ai(
    realtime._node.emitter.publisher,
    AiStore(realtime._node.redis, Keys(realtime.settings.redis_prefix)),
    realtime._node.manager,
    backend(),
    gevent.spawn,
    max_concurrent=int(os.environ.get("AI_MAX_CONCURRENT", "3")),
    limits=Limits(seconds("PIECE", 60), seconds("TOTAL", 600), seconds("ABSENT", 60)),
)
ai.start()
realtime.register_namespace(AiNamespace(ai))


@app.get("/_ai")
def measure() -> Any:
    """Return what of clients and requests is remembered here, and how many greenlets and descriptors there are."""
    watch, manager = ai._watch, realtime._node.manager
    tables = {
        "runs": ai._runs,
        "followers": watch._followers,
        "followed": watch._followed,
        "over": watch._over,
        "clients": watch._clients,
        "told": manager._told,
        "held": manager._held,
        "rooms": manager._rooms_of,
    }
    left = {name: str(table)[:500] for name, table in tables.items() if table}
    if left:
        # Asked again and again until nothing is left: to count objects each time would leave the node no time.
        return jsonify(left=left)
    gc.collect()
    pooled = sum(one._sock is not None for one in realtime._node.redis._redis.connection_pool._available_connections)
    return jsonify(
        left=left,
        greenlets=len([one for one in gc.get_objects() if isinstance(one, greenlet.greenlet) and not one.dead]),
        # The pool keeps as many connections as were once needed at a time.
        descriptors=len(os.listdir("/proc/self/fd")) - pooled,
    )


application = realtime.wsgi_app
