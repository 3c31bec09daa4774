"""What `mintflow serve` lets gunicorn call in each worker: find an application, as gunicorn and Flask write it.

A Flask app stands for the realtime application that was added to it; what is wrong ends in one sentence.
"""

import os
from inspect import getattr_static
from typing import Any

from flask import Flask
from gunicorn.errors import AppImportError
from gunicorn.util import import_app

from mintflow_realtime.settings.settings import SettingError


def load(spec: str) -> Any:
    """Return the WSGI application at `shop:application`, `shop:app` or `shop:create_app()`.

    Raises gunicorn's AppImportError, which ends the server with its text alone. What goes wrong inside the
    application keeps its traceback.
    """
    module = spec.partition(":")[0]
    try:
        found = import_app(spec)
    except ModuleNotFoundError as error:
        if error.name and (module == error.name or module.startswith(error.name + ".")):
            raise AppImportError(f"mintflow: there is no module {error.name!r} in {os.getcwd()}.") from error
        raise
    except SettingError as error:
        raise AppImportError(f"mintflow: {error}") from error
    return _realtime(found, spec)


def load_flask(spec: str = "") -> Any:
    """Return the WSGI application for what `flask --app SPEC` means. Raises AppImportError."""
    from flask.cli import NoAppException, ScriptInfo

    try:
        app = ScriptInfo(app_import_path=spec or None, set_debug_flag=False).load_app()
    except NoAppException as error:
        raise AppImportError(f"mintflow: {error.message}") from error
    except SettingError as error:
        raise AppImportError(f"mintflow: {error}") from error
    return _realtime(app, spec or app.import_name)


def _realtime(found: Any, spec: str) -> Any:
    if isinstance(found, Flask):
        realtime = found.extensions.get("mintflow")
        if realtime is None:
            raise AppImportError(f"mintflow: {spec} is a Flask app without realtime: add SocketManager(app) to it.")
        return realtime.wsgi_app
    # Not asked for: the worker does that, and to be asked may begin something.
    if getattr_static(found, "transport", None) is None:
        raise AppImportError(
            f"mintflow: {spec} is no application of ours: name the Flask app, or SocketManager(app).wsgi_app."
        )
    return found
