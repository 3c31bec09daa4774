"""The extension as a Flask developer meets it: factory, app.config, several apps, middleware, CSRF, own namespaces."""

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
import socketio
from flask import Flask
from werkzeug.test import Client

from mintflow_realtime import Namespace, SettingError, SocketManager, current_realtime
from mintflow_realtime.app.json_logs import JsonFormatter, log_as_json
from tests.integration.apps.store import Counting, create_app
from tests.redis_fixture import PrivateRedis
from tests.servers import API_KEY, PYTHON_PATH, ROOT, SECRET, Node, stopping, until
from tests.watcher import Watcher


@pytest.fixture
def config(shared_redis: PrivateRedis) -> dict[str, Any]:
    return {
        "MINTFLOW_REDIS_URL": shared_redis.url,
        "MINTFLOW_JWT_SECRET": SECRET,
        "MINTFLOW_API_KEYS": f"{API_KEY}:acme",
    }


@pytest.fixture
def new_app(config: dict[str, Any]) -> Iterator[Callable[..., Flask]]:
    """Makes Flask apps by the factory; what each has of realtime is closed at the end."""
    made: list[Flask] = []

    def make(name: str = "store", **more: Any) -> Flask:
        made.append(create_app(name, **{**config, **more}))
        return made[-1]

    yield make
    for app in made:
        app.extensions["mintflow"].close()


def run(program: str, **env: str) -> str:
    """Run a program in a process of its own and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={"PYTHONPATH": PYTHON_PATH, **env},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# Before there is an application, and without what serving needs


@pytest.mark.parametrize(
    "name",
    ["wsgi_app", "settings", "server", "flows", "logs", "workspaces", "dropped", "start", "publish", "principal"],
)
def test_what_needs_an_application_says_so_before_init_app(name: str) -> None:
    realtime = SocketManager()
    with pytest.raises(RuntimeError, match=r"SocketManager has no application yet: call init_app\(app\) before"):
        value = getattr(realtime, name)
        value(*{"publish": ("acme", "/x", "e", 1), "principal": ("sid", "/x")}.get(name, ()))


def test_a_typed_namespace_is_refused_at_once_where_nobody_is_to_be_authenticated() -> None:
    with pytest.raises(ValueError, match="acts for a principal"):
        SocketManager().register_namespace(Namespace("/x"), authenticate=False)


def test_importing_builds_nothing_and_reads_no_setting() -> None:
    program = """
import gc, os, threading
before = set(os.listdir("/proc/self/fd"))
import mintflow_realtime
from mintflow_realtime import SocketManager, Namespace, current_realtime
realtime = SocketManager()
from mintflow_realtime.app.node import Node
print(threading.active_count(), sorted(set(os.listdir("/proc/self/fd")) - before))
print([one for one in gc.get_objects() if isinstance(one, Node)])
"""
    assert run(program, PORT="http") == "1 []\n[]"


@pytest.mark.parametrize("missing", ["flask", "gevent", "socketio"])
def test_a_missing_extra_is_one_sentence_with_the_line_to_type(missing: str) -> None:
    program = f"""
import sys
sys.modules[{missing!r}] = None
from mintflow_realtime import Emitter
try:
    from mintflow_realtime import SocketManager
except ImportError as error:
    print(error)
"""
    sentence = f"mintflow_realtime.SocketManager needs {missing}: pip install 'mintflow-realtime[server]'"
    assert run(program) == sentence


def test_threads_of_a_process_without_gevent_publish_and_never_meet_a_hub(shared_redis: PrivateRedis) -> None:
    program = f"""
import threading
from flask import Flask
from werkzeug.test import Client
from mintflow_realtime import SocketManager
from gevent._hub_local import get_hub_if_exists
app = Flask("threads")
app.config["MINTFLOW_REDIS_URL"] = {shared_redis.url!r}
realtime = SocketManager(app)
hubs, offsets = [], []
def publish(nth):
    for step in range(20):
        offsets.append(realtime.logs.append("threads", flow_id="f", message=f"{{nth}} {{step}}").offset)
        realtime.server.emit("said", step, namespace="/own")
        app.test_client().get("/healthz")
    hubs.append(get_hub_if_exists())
threads = [threading.Thread(target=publish, args=(nth,)) for nth in range(8)]
[thread.start() for thread in threads], [thread.join() for thread in threads]
print(len(set(offsets)), hubs + [get_hub_if_exists()] == [None] * 9)
"""
    assert run(program) == "160 True"


# Settings, and where the extension is found


def test_settings_are_read_from_the_application_then_the_environment(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOCKET_PATH", "/plain")
    monkeypatch.setenv("MINTFLOW_LOGS_MAX", "11")
    monkeypatch.setenv("LOGS_MAX", "12")
    app = Flask("settings")
    app.config.update(config, MINTFLOW_SOCKET_PATH="/own", MINTFLOW_SOCKET_AUTH_REQUIRED=True, MINTFLOW_RUNS_TTL=90)
    settings = SocketManager(app).settings
    assert (settings.socket_path, settings.auth_required, settings.runs_ttl, settings.logs_max) == (
        "/own",
        True,
        90,
        11,
    )


@pytest.mark.parametrize(("name", "value"), [("MINTFLOW_SOCKET_AUTH_REQUIRED", 7), ("MINTFLOW_SOCKET_PAHT", "/x")])
def test_a_wrong_setting_of_the_application_is_one_sentence_that_names_it(name: str, value: Any) -> None:
    app = Flask("settings")
    app.config[name] = value
    with pytest.raises(SettingError, match=f"^{name}"):
        SocketManager(app)
    assert "mintflow" not in app.extensions


def test_the_extension_is_found_by_the_application(new_app: Callable[..., Flask]) -> None:
    app = new_app()
    with app.app_context():
        assert current_realtime() is app.extensions["mintflow"]
    with pytest.raises(RuntimeError, match="application context"):
        current_realtime()
    with Flask("bare").app_context(), pytest.raises(RuntimeError, match="bare has no SocketManager"):
        current_realtime()
    with pytest.raises(RuntimeError, match="store has a SocketManager already"):
        SocketManager(app)


def test_several_applications_of_one_factory_have_each_their_own(config: dict[str, Any]) -> None:
    realtime, apps = SocketManager(), []
    realtime.register_namespace(namespace := socketio.Namespace("/own"))
    for number in range(3):
        app = Flask(f"app{number}")
        app.config.update(config, MINTFLOW_REDIS_PREFIX=f"several{number}")
        realtime.init_app(app)
        apps.append(app)
    assert realtime.settings.redis_prefix == "several2", "outside of a context it stands for the last"
    found = [app.extensions["mintflow"] for app in apps]
    assert [one.settings.redis_prefix for one in found] == ["several0", "several1", "several2"]
    assert len({one.server for one in found}) == len({one.wsgi_app for one in found}) == 3
    for number, app in enumerate(apps):
        with app.app_context():
            realtime.logs.append("acme", flow_id="f", message=app.name)
            assert realtime.settings.redis_prefix == f"several{number}"
        logs = app.test_client().get("/api/v1/logs", headers={"X-API-Key": API_KEY}).json["logs"]
        assert [log["message"] for log in logs] == [app.name]
        assert found[number].server.namespace_handlers["/own"].server is found[number].server
    assert namespace.server is found[0].server
    for one in found:
        one.close()


def test_the_logs_are_configured_once_for_the_one_that_wants_to_know_most() -> None:
    logger = logging.getLogger("mintflow")
    before = logger.level, logger.handlers, logger.propagate
    logger.handlers = []
    try:
        for level in ("error", "debug", "warning"):
            log_as_json(level)
        assert [type(handler.formatter) for handler in logger.handlers] == [JsonFormatter]
        assert logger.level == logging.DEBUG
    finally:
        logger.level, logger.handlers, logger.propagate = before


# Routes: prefix, names, CSRF


def test_names_and_prefix_of_the_blueprints_are_the_applications_to_know(config: dict[str, Any]) -> None:
    app = Flask("prefixed")
    app.config.update(config)
    realtime = SocketManager(app, url_prefix="/realtime")
    names = {"mintflow_api", "mintflow_health", "mintflow_sockets", "mintflow_client", "mintflow_console"}
    assert {*app.blueprints} == names
    # Only with METRICS_TOKEN.
    assert {*realtime.blueprints} == {*names, "mintflow_metrics"}
    client = app.test_client()
    assert client.get("/realtime/healthz").status_code == 200
    assert client.get("/realtime/api/v1/logs", headers={"X-API-Key": API_KEY}).status_code == 200
    assert client.get("/healthz").status_code == client.get("/api/v1/logs").status_code == 404
    realtime.close()
    for wrong in ("realtime", "/realtime/", "/<x>"):
        with pytest.raises(ValueError, match="url_prefix"):
            SocketManager(url_prefix=wrong)


@pytest.mark.parametrize("first", ["", "1"])
def test_csrf_protection_leaves_our_routes_alone_whichever_is_set_up_first(
    new_app: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    monkeypatch.setenv("CSRF_FIRST", first)
    client = new_app().test_client()
    assert client.post("/buy").status_code == 400, "the application's own views stay protected"
    answer = client.post("/api/v1/logs", json={"message": "hello", "logLevel": "info"}, headers={"X-API-Key": API_KEY})
    assert answer.status_code == 202, answer.text
    assert client.post("/socket.io/?EIO=4&transport=polling", data="x").status_code == 503
    assert client.post("/buy").status_code == 400


def test_a_ticket_is_sent_as_it_is(new_app: Callable[..., Flask]) -> None:
    app = new_app()
    text = app.test_client().post("/login/ann").text
    answer = app.test_client().get("/api/v1/logs", headers={"Authorization": f"Bearer {text}"})
    assert text.startswith("t_") and answer.status_code == 200


# Middleware


def _before(app: Flask) -> SocketManager:
    app.wsgi_app = Counting(app.wsgi_app, "before")  # type: ignore[method-assign]
    return SocketManager(app)


def _after(app: Flask) -> SocketManager:
    realtime = SocketManager(app)
    app.wsgi_app = Counting(app.wsgi_app, "after")  # type: ignore[method-assign]
    return realtime


def _assigned(app: Flask) -> SocketManager:
    realtime = _before(app)
    app.wsgi_app = realtime.wsgi_app  # type: ignore[assignment, method-assign]
    return realtime


def _around(app: Flask) -> SocketManager:
    realtime = _before(app)
    app.wsgi_app = Counting(realtime.wsgi_app, "around")  # type: ignore[method-assign]
    app.wsgi_app = Counting(app.wsgi_app, "after")  # type: ignore[method-assign]
    return realtime


@pytest.mark.parametrize("by", ["realtime.wsgi_app", "app"])
@pytest.mark.parametrize(
    ("put", "seen"),
    [(_before, "before"), (_after, "after"), (_assigned, "before"), (_around, "after,around,before")],
)
def test_middleware_sees_each_request_once_wherever_it_is_put_and_whatever_is_served(
    config: dict[str, Any], put: Callable[[Flask], SocketManager], seen: str, by: str
) -> None:
    app = Flask("middleware")
    app.config.update(config)
    app.add_url_rule("/", "home", lambda: "home")
    realtime = put(app)
    answer = Client(app if by == "app" else realtime.wsgi_app).get("/")
    assert (answer.text, answer.headers["X-Seen"]) == ("home", seen)
    realtime.close()


# Handlers of own namespaces, under the real worker


@pytest.fixture(scope="module")
def store(shared_redis: PrivateRedis) -> Iterator[Node]:
    application = "tests.integration.apps.store:application"
    node = Node(application=application, REDIS_URL=shared_redis.url, REDIS_PREFIX="store", STORE_APPLICATION="1")
    with stopping(node):
        yield node.wait_ready()


def logged_in(node: Node, *namespaces: str, user: str = "") -> Watcher:
    """Connect with a ticket and the cookie that the store's login gave."""
    answer = requests.post(f"{node.url}/login/{user or 'ann'}", timeout=5)
    cookie = {"Cookie": f"session={answer.cookies['session']}"} if user else {}
    return Watcher(node.url, *namespaces, auth={"token": answer.text}, headers={**cookie, "X-Shop": "yes"})


def test_handlers_of_a_stock_namespace_run_in_the_context_with_the_handshakes_session(store: Node) -> None:
    with stopping(watcher := logged_in(store, "/cart", user="ann")):
        assert watcher.wait("welcome") == [["store", "ann"]]
        for _ in range(2):
            assert watcher.call("/cart", "who") == ["store", "ann", 1, "yes", "/"], "a new g for each"
        assert "can only be read" in watcher.call("/cart", "change")
        assert watcher.call("/cart", "who")[1] == "ann"
    with stopping(stranger := logged_in(store, "/cart")):
        assert stranger.call("/cart", "who")[:2] == ["store", None]
        until(lambda: ["store", "ann"] in stranger.call("/cart", "left"))


def test_handlers_of_a_typed_namespace_do_too_and_client_session_is_the_session(store: Node) -> None:
    with stopping(watcher := logged_in(store, "/orders", "/cart", user="bob")):
        answer = watcher.call("/orders", "place", {"text": "x"})
        assert answer == {"ok": True, "data": {"names": ["store", "bob", "bob"], "realtime": True}}
        assert "bob" in watcher.call("/orders", "joiners")["data"]
    with stopping(stranger := logged_in(store, "/orders")):
        assert stranger.call("/orders", "place")["data"]["names"] == ["store", None, None]


def test_handlers_that_are_functions_do_too(store: Node) -> None:
    with stopping(watcher := logged_in(store, "/plain", user="fay")):
        assert watcher.call("/plain", "who") == ["store", "fay", "/"]


def test_teardown_functions_run_after_each_handler_and_hear_of_its_error(store: Node) -> None:
    with stopping(watcher := logged_in(store, "/orders", "/cart", user="cid")):
        found, removed = watcher.call("/cart", "count")
        assert found == 42
        assert watcher.call("/cart", "count") == [42, removed + 1], "a scoped session lives as long as its handler"
        ended = len(watcher.call("/cart", "ended"))
        watcher.send("/cart", "fail")
        assert watcher.call("/orders", "fail")["error"]["code"] == "internal"
        until(lambda: watcher.call("/cart", "ended")[ended:].count("LookupError") == 2)


def test_our_own_namespaces_run_without(store: Node) -> None:
    with stopping(watcher := logged_in(store, "/cart", "/logs", "/flows", user="dan")):
        before = len(watcher.call("/cart", "ended"))
        for _ in range(5):
            assert watcher.call("/logs", "log_history")["ok"]
        assert len(watcher.call("/cart", "ended")) == before + 1, "that of the question before, and no more"


def test_a_view_publishes_and_clients_hear_it(store: Node) -> None:
    with stopping(watcher := logged_in(store, "/cart", user="eve")):
        assert requests.post(f"{store.url}/log/hello", timeout=5).status_code == 200
        assert watcher.wait("logged") == ["hello"]
