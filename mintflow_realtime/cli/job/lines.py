"""Lines of a stream of bytes; one that is rewritten by `\\r`, as progress is, is told once a second and as it ended."""

from mintflow_realtime.cli.job.levels import ANSI

# A record is cut to 64 KB; of a line that is longer than this, the rest is a line of its own.
MOST_BYTES = 1_000_000
REWRITTEN_SECONDS = 1.0


class Lines:
    """Turns what is read into lines that aren't blank. `now` is a monotonic time in seconds."""

    def __init__(self) -> None:
        self._rest = b""
        # Since when the last line is rewritten, or was told; and as what.
        self._since: float | None = None
        self._told = b""

    def feed(self, chunk: bytes, now: float) -> list[str]:
        """Return the lines that end in `chunk`."""
        *whole, self._rest = (self._rest + chunk).split(b"\n")
        lines = [line for one in whole for line in self._ended(one)]
        if b"\r" in self._rest:
            # What was written over isn't kept.
            before, _, last = self._rest.rpartition(b"\r")
            self._rest = _shown(before) + b"\r" + last
            self._since = now if self._since is None else self._since
        if len(self._rest) > MOST_BYTES:
            lines += self.end()
        return lines + self.look(now)

    def look(self, now: float) -> list[str]:
        """Return what a line that is being rewritten shows, where that is new and the last time a second ago."""
        if self._since is None or now - self._since < REWRITTEN_SECONDS:
            return []
        state = _shown(self._rest)
        if not state or state == self._told:
            return []
        self._since, self._told = now, state
        return [_text(state)]

    def end(self) -> list[str]:
        """Return the line that is left."""
        rest, self._rest = self._rest, b""
        return self._ended(rest)

    def _ended(self, line: bytes) -> list[str]:
        state = _shown(line)
        is_new = state and state != self._told
        self._since, self._told = None, b""
        return [_text(state)] if is_new else []


def _shown(line: bytes) -> bytes:
    """Return what a terminal shows of a line in the end: the last part that isn't blank."""
    return next((part for part in reversed(line.split(b"\r")) if ANSI.sub("", _text(part)).strip()), b"")


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace")
