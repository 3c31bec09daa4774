"""The gunicorn worker: `worker_class = "transport.worker.Worker"`.

The master loads this module long before a worker has patched the standard library. So it imports nothing that brings
along ssl's classes, as python-engineio does: HTTPS by `requests` or urllib3 would end in a RecursionError.
"""

import os

from geventwebsocket.gunicorn.workers import GeventWebSocketWorker

__all__ = ["Worker"]


class Worker(GeventWebSocketWorker):  # type: ignore[misc]
    """gunicorn's gevent worker with our server and handler, which drains before it ends.

    It ends on SIGTERM, which a HUP of the master sends too, where the master is gone, and after `max_requests` requests
    and connections. What can't work stops gunicorn at the start.
    """

    alive: bool

    def init_process(self) -> None:
        if self.cfg.is_ssl:
            raise RuntimeError("certfile and keyfile are not supported: TLS ends at nginx.")
        super().init_process()

    def load_wsgi(self) -> None:
        from transport.options import transport_of

        super().load_wsgi()
        transport_of(self.wsgi)

    def run(self) -> None:
        from transport.serving import serve

        serve(self)

    def notify(self) -> None:
        """Tell the master that this worker lives; drain where there is no master any more, as when told to stop."""
        if self.ppid == os.getppid():
            super().notify()
        elif self.alive:
            self.log.info("The master is gone: draining")
            self.alive = False
