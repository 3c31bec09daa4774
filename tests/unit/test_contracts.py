"""The library members of docs/contracts.md: each is still there, with the signature that is written there."""

import importlib
import importlib.metadata
import inspect
import os
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import socketio
from gevent.pywsgi import Input, WSGIHandler, WSGIServer
from gunicorn.config import Config
from redis.connection import Connection

import mintflow_realtime
from mintflow_realtime.fanout.deliver import foreign

ROOT = Path(__file__).resolve().parent.parent.parent
LIBRARIES = ("socketio", "engineio", "geventwebsocket", "gevent", "gunicorn", "redis", "itsdangerous")
# A process of its own, of the standard library alone, which leaves a handle on libc; and gunicorn's configuration.
NOT_IMPORTED = ("mintflow_realtime.stores.embedded.supervisor", "mintflow_realtime.app.gunicorn")


def contracts() -> dict[str, str]:
    """Return {dotted name: signature, '' for an attribute of instances} of every line in the page's code blocks."""
    page = (ROOT / "docs" / "contracts.md").read_text()
    lines = [line for block in re.findall(r"```\n(.*?)```", page, re.DOTALL) for line in block.splitlines()]
    found = {}
    for line in lines:
        name, bracket, rest = line.partition("(")
        assert name not in found, f"{name} is listed twice"
        found[name] = bracket + rest
    return found


CONTRACTS = contracts()
METHODS = {name: signature for name, signature in CONTRACTS.items() if signature}
ATTRIBUTES = sorted(name for name, signature in CONTRACTS.items() if not signature)


def owner_and_name(dotted: str) -> tuple[Any, str]:
    """Return the class or module that `dotted` is a member of, and the member's name."""
    parts = dotted.split(".")
    for length in range(len(parts) - 1, 0, -1):
        try:
            owner = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:-1]:
            owner = getattr(owner, part)
        return owner, parts[-1]
    raise AssertionError(f"no module of {dotted}")


@pytest.mark.parametrize(("name", "signature"), METHODS.items(), ids=list(METHODS))
def test_a_method_is_still_there_with_its_signature(name: str, signature: str) -> None:
    owner, member = owner_and_name(name)
    assert str(inspect.signature(getattr(owner, member))) == signature


@pytest.fixture(scope="module")
def instances() -> dict[type, Any]:
    """One instance of each class whose instances have attributes that we use."""
    server = socketio.Server(async_mode="threading", client_manager=socketio.RedisManager("redis://unused"))
    application, listener = (lambda environ, start_response: []), ("127.0.0.1", 0)
    http = WSGIServer(listener, application)
    made = [
        server,
        server.manager,
        server.eio,
        http,
        WSGIHandler(None, None, http, rfile=object()),
        Input(None, 0),
        redis.Redis(),
        Connection(),
        Config(),
    ]
    return {type(instance): instance for instance in made}


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_an_attribute_is_still_there(name: str, instances: dict[type, Any]) -> None:
    owner, member = owner_and_name(name)
    if not hasattr(owner, member):
        # Set in __init__; gunicorn's and geventwebsocket's need a process or a connection, so their source is read.
        kin = [instance for kind, instance in instances.items() if isinstance(owner, type) and issubclass(kind, owner)]
        if kin:
            assert hasattr(kin[0], member)
        else:
            assert re.search(rf"self\.{member}\b.* = |cfg\.{member}\b", inspect.getsource(owner)), name


def our_classes() -> Iterator[type]:
    for module in pkgutil.walk_packages(mintflow_realtime.__path__, "mintflow_realtime."):
        if module.name not in NOT_IMPORTED:
            for value in vars(importlib.import_module(module.name)).values():
                if inspect.isclass(value) and value.__module__ == module.name:
                    yield value


def overridden(ours: type) -> Iterator[str]:
    """Yield the library members that `ours` hides from its instances."""
    names = set()
    for base in ours.__mro__:
        library = base.__module__.partition(".")[0] in LIBRARIES
        for name in vars(base):
            if name.startswith("__") and name != "__init__":
                continue
            if not library:
                names.add(name)
            elif name in names:
                names.discard(name)
                yield f"{base.__module__}.{base.__qualname__}.{name}"


def test_every_override_is_listed() -> None:
    found = {member for ours in our_classes() for member in overridden(ours)}
    assert len(found) > 50, "the search itself works"
    assert sorted(found - CONTRACTS.keys()) == []


def our_source() -> str:
    names = os.walk(ROOT / "mintflow_realtime", followlinks=True)
    files = [Path(folder, name) for folder, _, inside in names for name in inside if name.endswith(".py")]
    return "\n".join(file.read_text() for file in files)


def test_nothing_is_listed_that_is_gone_from_our_code() -> None:
    """Each line is an override, or its name occurs: a class's for `__init__`."""
    source = our_source()
    for line in CONTRACTS.keys() - {member for ours in our_classes() for member in overridden(ours)}:
        *_, owner, name = line.split(".")
        if name.removeprefix("_handle_") in foreign.FIELDS:
            continue  # what another node asks for is looked up by its name
        word = owner if name == "__init__" else name
        assert re.search(rf"\b{word}\b", source), line


def test_of_the_replaced_libraries_parts_nothing_is_imported() -> None:
    source = our_source()
    imported = set(re.findall(r"^(?:from|import) ((?:engineio|geventwebsocket)[\w.]*)", source, re.MULTILINE))
    assert imported == {"engineio", "engineio.exceptions", "geventwebsocket.gunicorn.workers"}


def test_a_changed_or_missing_member_would_be_told() -> None:
    with pytest.raises(AssertionError):
        test_a_method_is_still_there_with_its_signature("socketio.server.Server._handle_event", "(self, sid, data)")
    with pytest.raises(AttributeError):
        test_a_method_is_still_there_with_its_signature("socketio.server.Server._handle_gone", "(self)")
    with pytest.raises(AssertionError):
        test_an_attribute_is_still_there("gunicorn.arbiter.Arbiter.gone", {})


@pytest.mark.parametrize(
    "line", [line for line in (ROOT / "requirements.txt").read_text().splitlines() if "==" in line]
)
def test_the_pinned_version_is_installed(line: str) -> None:
    name, _, version = line.partition("==")
    assert importlib.metadata.version(name.partition("[")[0]) == version


def test_what_gunicorn_reads_from_our_file_are_settings_of_it() -> None:
    names = "bind workers worker_class worker_connections graceful_timeout loglevel errorlog accesslog"
    hooks = "control_socket_disable on_starting on_reload post_fork pre_exec when_ready"
    text = (ROOT / "mintflow_realtime" / "app" / "gunicorn.py").read_text()
    for name in f"{names} {hooks}".split():
        assert name in Config().settings, name
        assert re.search(rf"^(def )?{name}\b", text, re.MULTILINE), name
