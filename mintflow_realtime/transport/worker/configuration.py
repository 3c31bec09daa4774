"""The master's configuration over a HUP: what doesn't load changes nothing, and what can't be served is taken back."""

import contextlib
import io
import os
import sys
from typing import Any

from gunicorn import sock
from gunicorn.pidfile import Pidfile


class ConfigurationFault(Exception):
    """A configuration that gunicorn can't load, or with which it could not start; the text says why."""


def refusal(cfg: Any) -> str | None:
    """Return why no worker of ours can be run with `cfg`."""
    if cfg.is_ssl:
        return "certfile and keyfile are not supported: TLS ends at nginx."
    if cfg.preload_app:
        return "preload_app must stay off: the application is loaded after the fork."
    return None


class Loaded:
    """A configuration that has been loaded: within its context, `app.reload()` gives `app` just that."""

    def __init__(self, app: Any, cfg: Any) -> None:
        self._app, self._cfg = app, cfg

    def __enter__(self) -> None:
        app, cfg = self._app, self._cfg
        app.reload = lambda: setattr(app, "cfg", cfg)

    def __exit__(self, *error: object) -> None:
        del self._app.reload


def load_configuration(app: Any) -> Loaded:
    """Load the configuration of gunicorn's `app` anew, for later; `app` stays as it is. Raises ConfigurationFault."""
    before, folder = app.cfg, os.getcwd()
    written = io.StringIO()
    try:
        # gunicorn writes what is wrong there, and ends the process.
        with contextlib.redirect_stderr(written):
            app.reload()
        reason = refusal(app.cfg)
        loaded = app.cfg
    except (SystemExit, Exception) as error:
        text = "" if isinstance(error, SystemExit) and isinstance(error.code, int | None) else str(error)
        reason = f"{written.getvalue()}{text}".strip() or repr(error)
        loaded = None
    finally:
        app.cfg = before
    if reason is None:
        print(written.getvalue(), end="", file=sys.stderr, flush=True)
        return Loaded(app, loaded)
    with contextlib.suppress(OSError):
        os.chdir(folder)
    raise ConfigurationFault(reason)


class Before:
    """What an arbiter served by before a HUP: configuration, number of workers, and bound addresses."""

    def __init__(self, arbiter: Any) -> None:
        self._arbiter = arbiter
        self._cfg, self._workers = arbiter.app.cfg, arbiter.num_workers
        self._environment = dict(self._cfg.env)
        self._listeners = [(listener, os.dup(listener.fileno())) for listener in arbiter.LISTENERS]

    def restore(self) -> None:
        """Put it back, and close what was bound since."""
        arbiter = self._arbiter
        for name in arbiter.cfg.env:
            os.environ.pop(name, None)
        arbiter.app.cfg = self._cfg
        arbiter.setup(arbiter.app)
        arbiter.num_workers = self._workers
        self._restore_pidfile()
        if all(listener.sock is not None for listener, _ in self._listeners):
            return  # they are the same still
        kept = {id(listener) for listener, _ in self._listeners}
        for listener in arbiter.LISTENERS:
            if id(listener) not in kept:
                listener.close()
        arbiter.LISTENERS = sock.create_sockets(
            self._cfg, arbiter.log, [os.dup(number) for _, number in self._listeners]
        )

    def _restore_pidfile(self) -> None:
        arbiter = self._arbiter
        try:
            if arbiter.pidfile is not None:
                arbiter.pidfile.unlink()
                arbiter.pidfile = None
            if self._cfg.pidfile is not None:
                pidfile = Pidfile(self._cfg.pidfile)
                pidfile.create(arbiter.pid)
                arbiter.pidfile = pidfile
        except (OSError, RuntimeError) as error:
            arbiter.log.error("The pidfile %s could not be written again: %s", self._cfg.pidfile, error)

    def close(self) -> None:
        """Let go of the addresses."""
        for _, number in self._listeners:
            os.close(number)
        self._listeners = []
