"""What is kept of a request's environ: its texts, an empty body, and what applications put in."""

import io
import sys
import tracemalloc

import pytest

from mintflow_realtime.transport.engine_io.environ import ReducedEnviron

FULL = {
    "REQUEST_METHOD": "GET",
    "PATH_INFO": "/socket.io/",
    "QUERY_STRING": "",
    "HTTP_COOKIE": "a=ü; b=2",
    "REMOTE_ADDR": "127.0.0.1",
    "wsgi.input": object(),
    "wsgi.multithread": True,
    "transport.reader": object(),
}


def test_texts_are_kept_and_objects_are_not() -> None:
    environ = ReducedEnviron(FULL)
    assert {name: environ[name] for name in environ if isinstance(environ[name], str)} == {
        name: value for name, value in FULL.items() if isinstance(value, str)
    }
    assert "transport.reader" not in environ and environ.get("wsgi.multithread") is None
    assert environ["wsgi.input"].read() == b"" and environ["wsgi.version"] == (1, 0)
    assert environ["wsgi.errors"] is sys.stderr
    assert len(environ) == 8 == len(list(environ)) and set(environ) == set(dict(environ))
    with pytest.raises(KeyError):
        environ["HTTP_HOST"]


def test_nothing_but_an_environ_of_nothing() -> None:
    assert sorted(ReducedEnviron({})) == ["wsgi.errors", "wsgi.input", "wsgi.version"]


def test_what_is_put_in_stays_and_belongs_to_one_alone() -> None:
    one, other = ReducedEnviron(FULL), ReducedEnviron(FULL)
    user = object()
    one["app.user"] = user
    one["PATH_INFO"] = "/elsewhere"
    one["wsgi.input"] = io.BytesIO(b"x")
    assert one["app.user"] is user and one["PATH_INFO"] == "/elsewhere" and one["wsgi.input"].read() == b"x"
    assert other["PATH_INFO"] == "/socket.io/" and "app.user" not in other
    assert len(one) == 9


def test_what_is_taken_out_is_gone() -> None:
    environ = ReducedEnviron(FULL)
    del environ["HTTP_COOKIE"]
    assert "HTTP_COOKIE" not in environ and environ["PATH_INFO"] == "/socket.io/" and len(environ) == 7
    environ["HTTP_COOKIE"] = "c"
    assert environ["HTTP_COOKIE"] == "c" and environ.pop("HTTP_COOKIE") == "c" and len(environ) == 7
    with pytest.raises(KeyError):
        del environ["HTTP_COOKIE"]


def test_twenty_headers_take_a_fraction_of_a_dict() -> None:
    def fresh() -> dict[str, object]:
        return {f"HTTP_HEADER_{number}": f"value {number} ".ljust(40) for number in range(20)} | {"x": object()}

    def held(count: int, keep: type) -> int:
        tracemalloc.start()
        kept = [keep(fresh()) for _ in range(count)]
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return size // len(kept)

    assert held(200, ReducedEnviron) < 1500 < held(200, dict)


def test_one_text_is_found_whatever_clients_say() -> None:
    environ = ReducedEnviron(
        {"A": "x", "QUERY_STRING": "REMOTE_ADDR", "B": "REMOTE_ADDR", "REMOTE_ADDR": "192.0.2.1", "C": "REMOTE_ADDR"}
    )
    assert environ.text("REMOTE_ADDR") == environ["REMOTE_ADDR"] == "192.0.2.1"
    assert (environ.text("A"), environ.text("C"), environ.text("x"), environ.text("D")) == (
        "x",
        "REMOTE_ADDR",
        None,
        None,
    )
    assert ReducedEnviron({"QUERY_STRING": "REMOTE_ADDR", "B": "y"}).text("REMOTE_ADDR") is None
