"""One address with servers behind it, as a managed Redis has: after a failover new connections go to another."""

import contextlib
import selectors
import socket
import ssl
import threading


class Forwarder:
    """Listens on a port of its own and passes connections on to `target`; those that are open stay where they are.

    With `tls` it speaks that to clients, for servers that were built without it.
    """

    def __init__(self, target: str | tuple[str, int], tls: ssl.SSLContext | None = None) -> None:
        self.target = target
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        if self._tls is not None:
            try:
                client = self._tls.wrap_socket(client, server_side=True)
            except OSError:
                return
        path = isinstance(self.target, str)
        server = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
        with client, server, contextlib.suppress(OSError), selectors.DefaultSelector() as both:
            server.connect(self.target)
            both.register(client, selectors.EVENT_READ, server)
            both.register(server, selectors.EVENT_READ, client)
            while True:
                for key, _ in both.select():
                    data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                    if not data:
                        return
                    # What TLS has read already is not seen by the selector.
                    while isinstance(key.fileobj, ssl.SSLSocket) and key.fileobj.pending():
                        data += key.fileobj.recv(65536)
                    key.data.sendall(data)

    def stop(self) -> None:
        # A thread that is in accept() would hold the port until the next connection.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
