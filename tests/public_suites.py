"""An echo server of Engine.IO alone, for the protocol's public test suite: `docs/protocol-suites.md`.

`python -m tests.public_suites` serves it on PORT (3000). The suite of Socket.IO runs against the whole server.
"""

from gevent import monkey

monkey.patch_all()

import os  # noqa: E402
from typing import Any  # noqa: E402

from mintflow_realtime.transport.engine_io.server import EngineServer  # noqa: E402
from mintflow_realtime.transport.worker.options import TransportOptions  # noqa: E402
from mintflow_realtime.transport.worker.single_process import serve  # noqa: E402


class Application:
    """What the suite asks of a server; times in seconds."""

    def __init__(self) -> None:
        self.engine = EngineServer(ping_interval=0.3, ping_timeout=0.2, cors_allowed_origins="*", connect_timeout=0)
        self.engine.on("connect", lambda sid, environ: None)
        self.engine.on("message", self.engine.send)
        self.engine.on("disconnect", lambda sid, reason: None)
        self.transport = TransportOptions("/engine.io", "*", None, self.engine.node_tag, self.engine)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        return self.engine.handle_request(environ, start_response)


if __name__ == "__main__":
    serve(Application(), "127.0.0.1", int(os.environ.get("PORT", "3000")))
