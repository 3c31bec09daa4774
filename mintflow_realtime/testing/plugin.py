"""The pytest plugin: `mintflow_server`, `mintflow_client`, `mintflow_token`.

It is loaded in every project of an environment that has the package: so it imports only what pytest has anyway.
"""

from collections.abc import Callable, Generator, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from mintflow_realtime.testing import RealtimeClient, RealtimeServer
    from mintflow_realtime.testing.servers.pool import ServerPool

# How much of the server's log a failed test shows.
SHOWN_LINES = 100


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option of the configuration file."""
    parser.addini("mintflow_app", "the application that mintflow_server runs, such as shop:create_app()", default="")


@pytest.fixture(scope="session")
def mintflow_app(pytestconfig: pytest.Config) -> object:
    """What `mintflow_server` runs: a name, or an object or factory of a module. Override it, in any scope."""
    name = pytestconfig.getini("mintflow_app")
    if not name:
        pytest.fail(
            "mintflow_server doesn't know the application: write mintflow_app = shop:create_app() into pytest's "
            "configuration, or a fixture mintflow_app that returns it.",
            pytrace=False,
        )
    return name


@pytest.fixture(scope="session")
def mintflow_options() -> Mapping[str, Any]:
    """What RealtimeServer is given besides: `settings`, `env`, `workers`, `tenants`. Override it, in any scope."""
    return {}


@pytest.fixture(scope="session")
def _mintflow_servers() -> "Iterator[ServerPool]":
    from mintflow_realtime.testing.servers.pool import ServerPool

    with ServerPool() as servers:
        yield servers


@pytest.fixture
def mintflow_server(
    mintflow_app: object, mintflow_options: Mapping[str, Any], _mintflow_servers: "ServerPool"
) -> "Iterator[RealtimeServer]":
    """The running application, with an empty Redis. It runs on for the next test, which finds nothing of this one."""
    from mintflow_realtime.testing.servers.gunicorn_process import ServerError
    from mintflow_realtime.testing.servers.redis_process import RedisError

    try:
        server = _mintflow_servers.take(mintflow_app, mintflow_options)
    except (ServerError, RedisError, ImportError, TypeError, ValueError) as error:
        # A sentence for the person who runs the tests; where in here it was raised says nothing to them.
        pytest.fail(str(error), pytrace=False)
    yield server
    _mintflow_servers.give_back(server)


@pytest.fixture
def mintflow_client(mintflow_server: "RealtimeServer") -> "Callable[..., RealtimeClient]":
    """`mintflow_client("/flows", token=…)`: a connected client, closed at the end of the test."""
    return mintflow_server.client


@pytest.fixture
def mintflow_token(mintflow_server: "RealtimeServer") -> Callable[..., str]:
    """`mintflow_token("ann", ["acme"], scope=…)`: a token that the server accepts."""
    return mintflow_server.token


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failed test what the server logged meanwhile."""
    report = yield
    server = getattr(item, "funcargs", {}).get("mintflow_server")
    if report.when == "call" and report.failed and server is not None:
        lines = server.log[server.log_mark :].strip().splitlines()[-SHOWN_LINES:]
        report.sections.append(("mintflow server log", "\n".join(lines)))
    return report
