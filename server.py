"""The application of a checkout: `gunicorn -c gunicorn.conf.py server:application`, or `python server.py`."""

if __name__ == "__main__":
    from gevent import monkey

    monkey.patch_all()

from dataclasses import replace

from mintflow_realtime.app.addresses import any_host
from mintflow_realtime.app.default import create_app
from mintflow_realtime.app.socket_manager import SocketManager
from mintflow_realtime.settings.settings import Settings
from mintflow_realtime.transport.worker.options import CannotServe
from mintflow_realtime.transport.worker.single_process import serve

__all__ = ["create_app"]


def main() -> None:
    """Serve in this one process, for a debugger: `python server.py`."""
    settings = replace(Settings.from_env(), web_concurrency=1)
    realtime: SocketManager = create_app(settings).extensions["mintflow"]
    try:
        realtime.wsgi_app.transport  # noqa: B018
    except CannotServe as error:
        raise SystemExit(f"mintflow: {error}") from None
    print(f"http://127.0.0.1:{settings.port}{settings.socket_path}", flush=True)
    serve(realtime.wsgi_app, settings.host or any_host(), settings.port)


if __name__ == "__main__":
    main()
else:
    application = create_app().extensions["mintflow"].wsgi_app
