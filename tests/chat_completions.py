"""A server of the tests' own that speaks the chat-completions protocol, well or badly, and sees clients go.

The request's model says how it answers: `normal`, `slow`, `odd`, `halves`, `cut`, `unfinished`, `malformed`, `binary`,
`silent`, `stall`, `busy` (429 once), `busier` (429 twice), `401`, `500`, and so on. The text is `TEXT`. `comments`
sends a comment every 0.2 s, for eight seconds, before the text; `end:REASON` and `empty:REASON` end with that reason,
with the text or without; `unstreamed` can't stream; `reasonless` gives no reason; `without:NAME,NAME` refuses requests
that have one of the options, one by one, and `value:NAME` for its value.
"""

import http.server
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from tests.servers import until

WORDS = ["Grüße ", "aus ", "東京, ", "naïve ", "🎉👩‍👩‍👧 ", "\u2028line\u2029 ", '"quotes" \\ ', "\n\nend", "."]
TEXT = "".join(WORDS)
USAGE = {"prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 16}
SLOW_SECONDS = 0.02


class Seen:
    """One request: its body, its headers, and when its connection was closed by the client."""

    def __init__(self, body: dict[str, Any], headers: dict[str, str]) -> None:
        self.body, self.headers = body, headers
        self.began = time.monotonic()
        self.closed: float | None = None
        self.sent = 0


class ChatCompletions:
    """Serves until `stop`; `seen` is what was asked, in order."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.done = threading.Event()
        self.server = _Server(("127.0.0.1", 0), _Handler)
        self.server.owner = self
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def asked(self, prompt: str) -> list[Seen]:
        """Return the requests whose last message is `prompt`."""
        return [one for one in list(self.seen) if one.body["messages"][-1]["content"] == prompt]

    def wait_asked(self, prompt: str, count: int = 1) -> Seen:
        until(lambda: len(self.asked(prompt)) >= count, 10, f"the backend is asked {prompt!r}")
        return self.asked(prompt)[count - 1]

    def stop(self) -> None:
        self.done.set()
        self.server.shutdown()
        self.server.server_close()
        self._thread.join(5)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    owner: ChatCompletions

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go are what the tests are about."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: Any) -> None: ...

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        seen = Seen(body, {name.lower(): value for name, value in self.headers.items()})
        self.server.owner.seen.append(seen)
        model = body["model"]
        tries = len(self.server.owner.asked(body["messages"][-1]["content"]))
        if model.isdecimal():
            self._refuse(int(model))
        elif model == "busy" and tries == 1 or model == "busier":
            self._refuse(429, "1")
        elif model == "much-busier":
            self._refuse(429, "600")
        elif model == "silent":
            self._hold(seen, 30)
        elif model.startswith("without:") and (named := [name for name in model[8:].split(",") if name in body]):
            self._refuse(400, message=f"Unsupported parameter: '{named[0]}' is not supported with this model.")
        elif model.startswith("value:") and model[6:] in body:
            self._refuse(400, message=f"{model[6:]} is too large: it must be at most 4")
        elif body.get("stream") and model != "unstreamed":
            self._stream(seen, model)
        else:
            self._whole(seen, model)

    def _refuse(self, status: int, retry_after: str = "", message: str = "a secret of sk-upstream") -> None:
        text = json.dumps({"error": {"message": message, "type": "x", "code": None}}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        if retry_after:
            self.send_header("Retry-After", retry_after)
        self.end_headers()
        self.wfile.write(text)

    def _whole(self, seen: Seen, model: str) -> None:
        if model == "slow" and self._hold(seen, 3):
            return
        text = json.dumps(
            {
                "id": "c1",
                "object": "chat.completion",
                "created": 1,
                "model": "upstream-" + model,
                "choices": [
                    {
                        "index": 0,
                        "finish_reason": _reason(model),
                        "message": {"role": "assistant", "content": None if model.startswith("empty:") else TEXT},
                    }
                ],
                "usage": USAGE,
            }
        ).encode()
        if model == "malformed":
            text = b'{"choices": "none"}'
        if model == "html":
            text = b"<html>not json</html>"
        length = len(text)
        if model == "cut":
            text = text[: length // 2]
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if model == "html" else "application/json")
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(text)
        if model == "cut":
            self.close_connection = True

    def _stream(self, seen: Seen, model: str) -> None:
        chunked = model != "unfinished"
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header(*(("Transfer-Encoding", "chunked") if chunked else ("Connection", "close")))
        self.end_headers()
        try:
            for part in _parts(model):
                pause = part if isinstance(part, float) else 0.0
                if pause and self._hold(seen, pause):
                    return
                if isinstance(part, bytes):
                    frame = b"%x\r\n%s\r\n" % (len(part), part) if chunked else part
                    self.wfile.write(frame)
                    self.wfile.flush()
                    seen.sent += 1
            if chunked and model != "cut":
                self.wfile.write(b"0\r\n\r\n")
        except OSError:
            seen.closed = time.monotonic()
        if model in ("cut", "unfinished"):
            self.close_connection = True

    def _hold(self, seen: Seen, seconds: float) -> bool:
        """Wait; return whether the client closed the connection meanwhile."""
        self.connection.settimeout(seconds)
        try:
            gone = self.connection.recv(1, socket.MSG_PEEK) == b""
        except TimeoutError:
            gone = False
        except OSError:
            gone = True
        finally:
            self.connection.settimeout(None)
        if gone:
            seen.closed = time.monotonic()
            self.close_connection = True
        return gone or self.server.owner.done.is_set()


def _parts(model: str) -> Iterator[bytes | float]:
    """Yield what is written, piece by piece, and the pauses between."""
    frames = list(_frames(model))
    if model == "odd":
        # One byte at a time for a while, then pieces that end anywhere: in a character, between \r and \n, in a frame.
        raw = b"".join(frames).replace(b"\n", b"\r\n")
        yield from (raw[place : place + 1] for place in range(200))
        yield from (raw[place : place + 7] for place in range(200, len(raw), 7))
        return
    if model == "comments":
        for _ in range(40):
            yield b": still at it\n\n"
            yield 0.2
    for place, frame in enumerate(frames):
        if model == "cut" and place == 4:
            yield frame[:20]
            return
        if model == "unfinished" and place == 5:
            return
        if model == "malformed" and place == 4:
            yield b'data: {"choices": [{"delta"\n\n'
        elif model == "binary" and place == 4:
            yield b'data: {"choices": [{"index":0,"delta":{"content":"\xff\xfe"},"finish_reason":null}]}\n\n'
        elif model == "failing" and place == 4:
            yield b'data: {"error": {"message": "sk-upstream overloaded", "code": "x"}}\n\n'
        elif model == "stall" and place == 4:
            yield 30.0
        else:
            yield frame
        if model == "slow":
            yield SLOW_SECONDS
        if model == "endless" and place == 3:
            while True:
                yield _frame({"content": "and on "})
                yield SLOW_SECONDS


def _reason(model: str) -> str:
    return model.partition(":")[2] if model.startswith(("end:", "empty:")) else "stop"


def _frames(model: str) -> Iterator[bytes]:
    yield b": a comment\n\n"
    yield _frame({"role": "assistant", "content": ""})
    if model == "halves":
        # A character in two escapes, one in each frame.
        yield _frame({"content": "a\ud83c"}, ascii=True)
        yield _frame({"content": "\udf89b\ud83c"}, ascii=True)
        yield _frame({"content": "c"}, ascii=True)
    elif not model.startswith("empty:"):
        words = [f"{number} " for number in range(1200)] if model == "many" else WORDS
        for word in words * (20 if model == "slow" else 1):
            yield _frame({"content": word})
    yield _frame({}, finish=None if model == "reasonless" else _reason(model))
    usage = {"id": "c1", "object": "chat.completion.chunk", "model": "m", "created": 1, "choices": [], "usage": USAGE}
    yield b"data: " + json.dumps(usage).encode() + b"\n\n"
    yield b"data: [DONE]\n\n"


def _frame(delta: dict[str, str], finish: str | None = None, ascii: bool = False) -> bytes:
    body = {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        "usage": None,
    }
    return b"data: " + json.dumps(body, ensure_ascii=ascii).encode() + b"\n\n"
