"""How the test server's processes find the application: by a name, imported after gevent has patched the process."""

import os
import pkgutil
import sys
import types
from pathlib import Path
from typing import Any

FAILED = "failed"
WORKERS = "workers"


def name_of(application: object) -> str:
    """Return the name by which other processes import `application`: `module:variable`, or `module:factory()`.

    A name is returned as it is. Raises TypeError, with a sentence, for what has none.
    """
    if isinstance(application, str):
        return application
    if isinstance(application, types.FunctionType):
        name = application.__qualname__
        if "<" in name or not _importable(application.__module__):
            raise TypeError(
                f"The server imports its application in processes of its own, and {name} is no function of a module "
                "that they can import: define it at the top of one, or give a name, such as 'shop:create_app()'."
            )
        return f"{application.__module__}:{name}()"
    modules = [name for name in sys.modules if _importable(name)]
    # Where it is made comes before those that import it from there, tests last of all.
    made_in = getattr(application, "import_name", None)
    modules.sort(key=lambda name: (name != made_in, name.rpartition(".")[2].startswith(("test_", "conftest"))))
    for module in modules:
        for variable, value in tuple(vars(sys.modules[module]).items()):
            if value is application:
                return f"{module}:{variable}"
    raise TypeError(
        f"The server imports its application in processes of its own, and this {type(application).__name__} is not the "
        "value of any module's variable: give the name of the factory that makes it, such as 'shop:create_app()'."
    )


def load(name: str, directory: str) -> Any:
    """Return the WSGI application called `name`, for a worker; `directory` is told that it serves, or why not."""
    try:
        found = _resolve(name)
        extension = getattr(found, "extensions", {}).get("mintflow", found)
        application = getattr(extension, "wsgi_app", extension)
        if getattr(application, "transport", None) is None:
            raise TypeError(
                f"it is a {type(found).__name__} without realtime; name a Flask app that a SocketManager was given, "
                "its `realtime.wsgi_app`, or a factory of one with its parentheses"
            )
    except BaseException as error:
        text = " ".join(str(error).split())
        _write(Path(directory, FAILED), f"{os.getpid()} {type(error).__name__}{': ' if text else ''}{text}")
        raise
    workers = Path(directory, WORKERS)
    workers.mkdir(exist_ok=True)
    _write(workers / str(os.getpid()), "")
    return application


def _resolve(name: str) -> Any:
    if name.endswith(")"):
        from gunicorn.util import import_app

        return import_app(name)
    return pkgutil.resolve_name(name if ":" in name else f"{name}:application")


def _importable(module: str) -> bool:
    found = sys.modules.get(module)
    return module != "__main__" and getattr(found, "__spec__", None) is not None


def _write(path: Path, text: str) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(text)
    os.replace(unfinished, path)
