"""What a worker serves under `--reload` while its application can't be loaded: the fault, until a file is mended."""

import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import Any

_LOADERS = re.compile(r"[/\\](?:gunicorn|importlib|mintflow_realtime)[/\\]|^<frozen importlib")


def files_of(error: BaseException) -> set[str]:
    """Return the source files that `error` came through: to mend one of them is what ends it."""
    files = {frame.filename for frame in traceback.extract_tb(error.__traceback__)}
    if isinstance(error, SyntaxError) and error.filename:
        files.add(error.filename)
    return {name for name in files if not name.startswith("<")}


def awaited_files(error: BaseException | None) -> set[str]:
    """Return the files, not there yet, one of which would be the module that `error` misses."""
    while error is not None and not (isinstance(error, ModuleNotFoundError) and error.name):
        error = error.__cause__ or error.__context__
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return set()
    place = error.name.replace(".", os.sep)
    names = (f"{place}.py", os.path.join(place, "__init__.py"))
    return {os.path.join(folder, name) for folder in sys.path for name in names}


def without_loaders(error: Exception) -> Exception:
    """Return `error` with its traceback from the application's first line on: what loads it comes before that."""
    trace = error.__traceback__
    while trace and _LOADERS.search(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return error.with_traceback(trace)


class FailedApplication:
    """A WSGI application that answers each request with 500 and the traceback, as text."""

    def __init__(self, error: BaseException) -> None:
        self._text = "".join(traceback.format_exception(error)).encode("utf-8", "backslashreplace")

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response(
            "500 Internal Server Error",
            [
                ("Content-Type", "text/plain; charset=utf-8"),
                ("Content-Length", str(len(self._text))),
                ("Cache-Control", "no-store"),
            ],
        )
        return [self._text]
