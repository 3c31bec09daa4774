"""The first request of every client, and what is done to its answer on the way."""

from collections.abc import Iterator

from mintflow_realtime.cli.client.errors import Unreached
from mintflow_realtime.cli.client.polling import Answer, BadAnswer, ask, read_opening
from mintflow_realtime.cli.probe.context import Probe, failed, ok, warning
from mintflow_realtime.cli.probe.proxies import Fault
from mintflow_realtime.stores.redis.self_check import CheckResult

# A token may have 8 KB, and travels in the query of a WebSocket where a browser can't set a header.
LONG_QUERY = 6000
_PROXY_HAS_NO_SERVER = (502, 504)


def check_handshake(probe: Probe) -> Iterator[CheckResult]:
    """Yield what becomes of the handshake; `probe.opening` is empty where there is none, and all else is vain."""
    connection = probe.target.http()
    try:
        answer = _ask(probe, connection)
        probe.notice(answer)
        yield _opened(probe, answer)
        if probe.opening:
            yield _way(probe, answer)
            yield from _cached(probe, answer, _ask(probe, connection))
            yield from _headers(answer)
            yield _long_query(probe)
    except Unreached as error:
        yield failed("server", str(error), error.advice)
    finally:
        connection.close()


def _ask(probe: Probe, connection: object, **query: str) -> Answer:
    # As a page of the same origin would ask, and without `t`, which stock clients send against caches.
    path = probe.target.request_target(transport="polling", **query)
    return ask(connection, "GET", path, Origin=probe.target.origin, Accept_Encoding="gzip")  # type: ignore[arg-type]


def _opened(probe: Probe, answer: Answer) -> CheckResult:
    where = f"{probe.target.origin}{probe.target.path}"
    if answer.header("content-encoding"):
        return failed(
            "server", f"the handshake is compressed ({answer.header('content-encoding')})", "Leave this path out."
        )
    try:
        probe.opening = read_opening(answer)
    except BadAnswer:
        return failed("server", *_not_opened(probe, answer, where))
    return ok("server", f"{where} answers")


def _not_opened(probe: Probe, answer: Answer, where: str) -> tuple[str, str]:
    status, by = answer.status, f" by {probe.proxy}" if probe.proxy else ""
    if status in (301, 302, 303, 307, 308):
        return f"{where} is redirected to {answer.header('location')[:200]}", "Give that URL: clients don't follow it."
    if status in _PROXY_HAS_NO_SERVER:
        return (
            f"{status}{by}: the proxy doesn't reach the server",
            "Is it up, and is the proxy's upstream address right?",
        )
    if status == 503:
        return f"503{by}: no server is ready", "GET /readyz of the server says why."
    if status in (401, 403, 407):
        return f"{status}{by}: refused before the server", "Leave this path out of the proxy's own login and rules."
    if status in (404, 405):
        return (
            f"{status}{by}: there is no Socket.IO at {where}",
            "Correct the URL, --path (SOCKET_PATH) or the location.",
        )
    if status == 200:
        return f"{where} is answered by something else", "Correct the URL, --path (SOCKET_PATH) or the location."
    return f"the handshake is answered with {status}{by}: {answer.body.strip()[:120]}", "Look at the server's log."


def _way(probe: Probe, answer: Answer) -> CheckResult:
    if answer.version == "1.0":
        return warning("proxy", "answers come by HTTP/1.0: each poll costs a new connection", "Let it speak HTTP/1.1.")
    return ok("proxy", f"{probe.proxy} is in between" if probe.proxy else "none that tells of itself")


def _cached(probe: Probe, first: Answer, second: Answer) -> Iterator[CheckResult]:
    """Two handshakes with one URL must be two sessions."""
    try:
        same = read_opening(second)["sid"] == probe.opening["sid"]
    except BadAnswer:
        yield failed("cache", f"the second handshake is answered with {second.status}", "Look at the proxy's log.")
        return
    if same:
        yield probe.blame("cache", "two clients are given one and the same session", Fault.CACHE)
    else:
        hit = next((name for name in ("age", "x-cache-hits") if first.header(name) not in ("", "0")), "")
        yield warning("cache", f"an answer came out of a cache ({hit})") if hit else ok("cache", "answers are not kept")


def _headers(answer: Answer) -> Iterator[CheckResult]:
    doubled = [
        name for name, values in answer.headers.items() if len(values) > 1 and name.startswith("access-control-")
    ]
    if doubled:
        found = f"{', '.join(doubled)} comes twice: browsers refuse that"
        yield failed("headers", found, "Let the server alone set CORS headers (SOCKET_CORS_ORIGIN), not the proxy.")
        return
    cookies = [value.partition("=")[0] for value in answer.headers.get("set-cookie", ())]
    text = f"the proxy sets the cookie {', '.join(cookies)}" if cookies else "CORS once, no cookies"
    yield ok("headers", text)


def _long_query(probe: Probe) -> CheckResult:
    connection = probe.target.http()
    try:
        answer = _ask(probe, connection, pad="x" * LONG_QUERY)
    except Unreached as error:
        return probe.blame("long URL", f"a URL of {LONG_QUERY} bytes: {error}", Fault.HEAD)
    finally:
        connection.close()
    if answer.status != 200:
        found = f"a URL of {LONG_QUERY} bytes is answered with {answer.status}; tokens in it may be as long"
        return probe.blame("long URL", found, Fault.HEAD)
    return ok("long URL", f"one of {LONG_QUERY} bytes passes")
