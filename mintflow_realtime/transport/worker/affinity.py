"""Moving an accepted connection, with all bytes read from it, to the worker that owns its session.

Each worker listens on `{directory}/{tag}.sock`. One message is one connection: its descriptor, its address, its bytes.
Only processes of the same user are believed (directory 0700, socket 0600, and SO_PEERCRED).
"""

import array
import contextlib
import errno
import json
import os
import re
import socket
import struct
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, unquote

import gevent
from gevent import monkey
from gevent import socket as gevent_socket
from gevent.pool import Pool

from mintflow_realtime.transport.engine_io.session_id import TAG_PATTERN, tag_of
from mintflow_realtime.unix_paths import short

MESSAGE_BYTES = 131_072  # a head, two reads and an address are under 50 KB; SO_SNDBUF is 212,992
SEND_SECONDS = 2.0
RECEIVE_SECONDS = 2.0
RECEIVERS = 64
_ADDRESS_LENGTH = struct.Struct("!H")
_CREDENTIALS = struct.Struct("3i")
_WORKER_SOCKET = re.compile(rf"{TAG_PATTERN}\.sock").fullmatch

Take = Callable[[int, Any, bytes], object]
"""Called with a descriptor, which it then owns, the client's address and the bytes read so far."""


class WorkerBusy(Exception):
    """The owning worker is alive and did not take the connection within `SEND_SECONDS`."""


def session_tag(target: str, is_socket_path: Callable[[str], bool]) -> str | None:
    """Return the tag of the worker that owns the session of a request's target; None where it names none."""
    path, _, query = target.partition("?")
    if "sid=" not in query or not is_socket_path(unquote(path, encoding="latin-1")):
        return None
    return tag_of(parse_qs(query).get("sid", [""])[0])


def send(directory: str, tag: str, descriptor: int, address: Any, read: bytes) -> bool:
    """Give a connection to the worker `tag`; the caller then closes its own descriptor without shutting it down.

    False: that worker is gone (its socket file is removed). Raises `WorkerBusy`, and `OSError` for other failures.
    """
    path = os.path.join(directory, f"{tag}.sock")
    where = json.dumps(address.decode("latin-1") if isinstance(address, bytes) else address).encode()
    message = [_ADDRESS_LENGTH.pack(len(where)), where, read]
    deadline = time.monotonic() + SEND_SECONDS
    while True:
        # Not a cooperative socket: connecting to a full UNIX backlog can't be waited for, only tried again.
        with _kernel_socket() as peer:
            peer.setblocking(False)
            try:
                with short(path) as reached:
                    peer.connect(reached)
                if not _same_user(peer):
                    return False
                peer.sendmsg(message, [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))])
                return True
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise WorkerBusy from None
            except (FileNotFoundError, ConnectionRefusedError, ConnectionResetError, BrokenPipeError) as gone:
                if gone.errno == errno.ECONNREFUSED:
                    with contextlib.suppress(OSError):
                        os.unlink(path)
                return False
        gevent.sleep(0.01)


class Receiver:
    """This worker's end: `take` is called, in a greenlet, for each connection that another worker gives us.

    At most `RECEIVERS` are being taken at once; more wait in the kernel's backlog and their senders with them.
    """

    def __init__(self, directory: str, tag: str, take: Take) -> None:
        self.path = os.path.join(directory, f"{tag}.sock")
        self._take = take
        self._pool = Pool(RECEIVERS)
        os.makedirs(directory, mode=0o700, exist_ok=True)
        remove_stale(directory)
        self._listener = gevent_socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Listening first, then the name: a socket that is bound and not listening looks like a dead worker's.
        unready = os.path.join(directory, f".{tag}.new")
        try:
            with short(unready) as path:
                self._listener.bind(path)
            os.chmod(unready, 0o600)
            self._listener.listen(1024)
            os.rename(unready, self.path)
        except OSError as error:
            self._listener.close()
            raise OSError(error.errno, f"No worker socket in {directory}: {error}") from error
        self._greenlet = gevent.spawn(self._accept)

    def close(self) -> None:
        """Stop receiving and remove the socket file."""
        self._greenlet.kill()
        self._pool.kill()
        self._listener.close()
        with contextlib.suppress(OSError):
            os.unlink(self.path)

    def _accept(self) -> None:
        while True:
            self._pool.wait_available()
            try:
                peer, _ = self._listener.accept()
            except OSError as error:
                if error.errno in (errno.EBADF, errno.EINVAL):
                    return
                gevent.sleep(0.1)  # out of descriptors: senders are told that we are busy
                continue
            self._pool.spawn(self._receive, peer)

    def _receive(self, peer: Any) -> None:
        received = array.array("i")
        with peer:
            peer.settimeout(RECEIVE_SECONDS)
            try:
                message, ancillary, flags, _ = peer.recvmsg(MESSAGE_BYTES, socket.CMSG_SPACE(received.itemsize))
            except OSError:
                return
            for level, kind, descriptors in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    received.frombytes(descriptors[: len(descriptors) - len(descriptors) % received.itemsize])
            believed = _same_user(peer) and not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC)
        if len(received) != 1 or not believed or len(message) < _ADDRESS_LENGTH.size:
            for descriptor in received:
                os.close(descriptor)
            return
        split = _ADDRESS_LENGTH.size + _ADDRESS_LENGTH.unpack_from(message)[0]
        address = json.loads(message[_ADDRESS_LENGTH.size : split])
        self._take(received[0], tuple(address) if isinstance(address, list) else address, message[split:])


def remove_stale(directory: str) -> None:
    """Remove the sockets of workers that are gone. A live worker sees one empty connection."""
    for name in os.listdir(directory):
        if _WORKER_SOCKET(name):
            path = os.path.join(directory, name)
            with _kernel_socket() as peer:
                peer.setblocking(False)
                try:
                    with short(path) as reached:
                        peer.connect(reached)
                except ConnectionRefusedError:
                    with contextlib.suppress(OSError):
                        os.unlink(path)
                except OSError:
                    continue


def _same_user(peer: Any) -> bool:
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return bool(_CREDENTIALS.unpack(credentials)[1] == os.geteuid())


def _kernel_socket() -> Any:
    return monkey.get_original("socket", "socket")(socket.AF_UNIX, socket.SOCK_SEQPACKET)
