"""The page's own files, what it runs on, and `/socket.io/socket.io.js` for pages of others."""

from pathlib import Path

from flask import Blueprint, Response, send_from_directory

from mintflow_realtime.console import CLIENT_BLUEPRINT
from mintflow_realtime.console.vendored import CLIENT_FILES, FOLDER, is_complete

STATIC = Path(__file__).parent / "static"
# By ours, not the machine's table of types, which may say anything: browsers run no module of another type.
_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".html": "text/html; charset=utf-8",
    ".LICENSE": "text/plain; charset=utf-8",
}
MISSING = (
    "This checkout lacks the files that the page runs on. They come from npm: install Node.js and npm, "
    "then run `make setup`, or install the wheel, which has them."
)


def send(folder: Path, name: str) -> Response:
    """Return a file of `folder`; browsers keep it, and ask each time whether it is another now. Raises 404."""
    response = send_from_directory(folder, name, max_age=0, mimetype=_TYPES.get(Path(name).suffix))
    response.headers["Cache-Control"] = "no-cache"
    return response


def page() -> Response:
    """Return the page, or the one that says what to do where it has nothing to run on."""
    return send(STATIC, "index.html" if is_complete() else "missing.html")


def client_blueprint(socket_path: str) -> Blueprint:
    """Return the blueprint that gives the stock client below `socket_path`, as Node's server does."""

    def client(name: str) -> Response:
        if not (FOLDER / name).is_file():
            return Response(MISSING + "\n", 404, content_type=_TYPES[".LICENSE"])
        response = send(FOLDER, name)
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    files = Blueprint(CLIENT_BLUEPRINT, __name__)
    for name in CLIENT_FILES:
        files.add_url_rule(f"{socket_path}/{name}", name.replace(".", "_"), client, defaults={"name": name})
    return files
