"""Engine.IO by long-polling, one HTTP connection for GETs and one for POSTs, as a browser has them."""

import http.client
import json
import select
from collections import deque
from dataclasses import dataclass
from typing import Any

from mintflow_realtime.cli.client.errors import Closed, Unreached
from mintflow_realtime.cli.client.target import PATIENCE, Target

SEPARATOR = "\x1e"
MAX_ANSWER_BYTES = 16_000_000


@dataclass(frozen=True, slots=True)
class Answer:
    """What an HTTP request was answered with; names of headers in lower case, several values each."""

    status: int
    version: str
    headers: dict[str, list[str]]
    body: str

    def header(self, name: str) -> str:
        """Return a header's values, joined as HTTP would; '' where there is none."""
        return ", ".join(self.headers.get(name, ()))


class BadAnswer(Closed):
    """A request of a session was answered with another status than 200."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer
        self.args = (f"a request is answered with {answer.status}",)


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: str | None = None, **headers: str
) -> Answer:
    """Return the answer to one request. Raises Unreached."""
    where = f"{connection.host}:{connection.port}"
    given = {"User-Agent": "mintflow", **{name.replace("_", "-"): value for name, value in headers.items()}}
    if body is not None:
        given["Content-Type"] = "text/plain;charset=UTF-8"
    _leave_if_closed(connection)
    try:
        connection.request(method, path, None if body is None else body.encode(), given)
        response = connection.getresponse()
        text = response.read(MAX_ANSWER_BYTES).decode("utf-8", "replace")
    except OSError as error:
        connection.close()
        raise Unreached.of(error, where) from error
    except http.client.HTTPException as error:
        connection.close()
        raise Unreached(f"{where} gives no answer of HTTP ({type(error).__name__})", "Is the port right?") from error
    found: dict[str, list[str]] = {}
    for name, value in response.getheaders():
        found.setdefault(name.lower(), []).append(value)
    return Answer(response.status, "1.0" if response.version == 10 else "1.1", found, text)


def _leave_if_closed(connection: http.client.HTTPConnection) -> None:
    """Let the next request open a new connection where the other side has ended this one: `keepalive` was over."""
    if connection.sock is not None and select.select([connection.sock], [], [], 0)[0]:
        connection.close()


class Polling:
    """One session by long-polling, from its handshake on."""

    def __init__(self, target: Target, handshake: Answer | None = None) -> None:
        """Begin a session, or take up the one that `handshake` answers. Raises Unreached, BadAnswer."""
        self._target = target
        self._gets, self._posts = target.http(), target.http()
        answer = handshake or ask(self._gets, "GET", target.request_target(transport="polling"))
        self.opening = read_opening(answer)
        self.sid: str = self.opening["sid"]
        self._packets: deque[str] = deque()

    def send(self, packet: str, timeout: float = PATIENCE) -> None:
        """Send one packet. Raises Unreached, BadAnswer."""
        self._set_timeout(self._posts, timeout)
        answer = ask(self._posts, "POST", self._path(), packet)
        if answer.status != 200:
            raise BadAnswer(answer)

    def receive(self, timeout: float) -> str | None:
        """Return the next packet, or None after `timeout` seconds. Raises Unreached, BadAnswer."""
        if not self._packets:
            self._set_timeout(self._gets, timeout)
            try:
                answer = ask(self._gets, "GET", self._path())
            except Unreached as error:
                if isinstance(error.__cause__, TimeoutError):
                    return None
                raise
            if answer.status != 200:
                raise BadAnswer(answer)
            self._packets.extend(answer.body.split(SEPARATOR))
        return self._packets.popleft()

    def close(self) -> None:
        """End the session and close both connections."""
        try:
            self.send("1", 1.0)
        except (Unreached, Closed):
            pass
        self._gets.close()
        self._posts.close()

    def _path(self) -> str:
        return self._target.request_target(transport="polling", sid=self.sid)

    @staticmethod
    def _set_timeout(connection: http.client.HTTPConnection, timeout: float) -> None:
        connection.timeout = timeout
        if connection.sock is not None:
            connection.sock.settimeout(timeout)


def read_opening(answer: Answer) -> dict[str, Any]:
    """Return what the handshake of a session says. Raises BadAnswer where it is none."""
    if answer.status == 200 and answer.body.startswith("0{"):
        try:
            opening: dict[str, Any] = json.loads(answer.body[1:])
            if isinstance(opening.get("sid"), str):
                return opening
        except ValueError:
            pass
    raise BadAnswer(answer)
