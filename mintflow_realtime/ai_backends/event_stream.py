"""Server-sent events as bytes bring them (HTML, 9.2.6), in time linear in the bytes."""

from collections.abc import Iterable, Iterator


def read_events(chunks: Iterable[bytes]) -> Iterator[bytes | None]:
    """Yield the data of each event, and None after each chunk of bytes, whatever is in it: comments too."""
    data: list[bytes] = []
    for line in _lines(chunks):
        if line is None:
            yield None
        elif line.startswith(b"data:"):
            data.append(line[6:] if line[5:6] == b" " else line[5:])
        elif not line and data:
            yield b"\n".join(data)
            data = []


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes | None]:
    """Yield lines without their ends (CR LF, LF or CR), and None after each chunk."""
    begun: list[bytes] = []
    after_cr = False
    for chunk in chunks:
        if after_cr and chunk[:1] == b"\n":
            chunk, after_cr = chunk[1:], False
        if chunk:
            after_cr = chunk.endswith(b"\r")
            first, *rest = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
            begun.append(first)
            if rest:
                yield b"".join(begun)
                yield from rest[:-1]
                begun = [rest[-1]]
        yield None
