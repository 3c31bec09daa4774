"""An Emitter made once and used by children that fork while threads publish, by threads, and by gevent's threads."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator

import pytest

from tests.servers import PYTHON_PATH, ROOT, RedisServer, stopping


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    server = RedisServer()
    with stopping(server):
        yield server


def run(text: str, url: str, seconds: float = 60.0) -> str:
    """Run a script in a new interpreter; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(text)],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": PYTHON_PATH, "REDIS_URL": url},
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


FORKS = """
    import os, signal, sys, threading, time
    from mintflow_realtime import Emitter

    emit = Emitter()
    stop = threading.Event()
    wrong = []

    def publish():
        while not stop.is_set():
            try:
                emit.logs.append("acme", message="parent")
            except Exception as error:
                wrong.append(repr(error))

    threads = [threading.Thread(target=publish) for _ in range(4)]
    for thread in threads:
        thread.start()
    children = []
    for number in range(50):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                emit.logs.append("acme", message=f"child {number}")
                code = 0
            finally:
                os._exit(code)
        children.append(pid)
        time.sleep(0.002)
    deadline, ended = time.monotonic() + 30, {}
    while len(ended) < len(children) and time.monotonic() < deadline:
        for pid in children:
            if pid not in ended and os.waitpid(pid, os.WNOHANG)[0]:
                ended[pid] = True
        time.sleep(0.01)
    hanging = [pid for pid in children if pid not in ended]
    for pid in hanging:
        os.kill(pid, signal.SIGKILL)
    stop.set()
    for thread in threads:
        thread.join(10)
    assert not wrong, wrong[:3]
    assert not hanging, f"{len(hanging)} of {len(children)} hang"
    from mintflow_realtime.auth.principal import Principal
    from mintflow_realtime.protocol.logs import FilterLogs
    found = emit.logs.read(Principal.system("acme"), FilterLogs(search="child", limit=1000)).logs
    print(len(found))
    emit.close()
"""


@pytest.mark.parametrize("attempt", range(3))
def test_children_that_fork_while_threads_publish_all_publish(server: RedisServer, attempt: int) -> None:
    with server.client() as client:
        client.flushall()
    assert run(FORKS, server.url) == "50"


def test_the_first_publish_imports_nothing(server: RedisServer) -> None:
    """A child that is forked while another thread imports a module waits for that module for ever."""
    text = """
        import sys
        from mintflow_realtime import Emitter

        emit = Emitter()
        before = set(sys.modules)
        emit.logs.append("acme", message="m", idempotency_key="k")
        emit.logs.append_many("acme", [{"message": "m" * 9000}] * 100)
        emit.flows.started("acme", "f", "r")
        emit.workspaces.update("acme", "w", {"a": 1})
        emit.publish("acme", "/board", "moved", 1)
        print(sorted(set(sys.modules) - before))
        emit.close()
    """
    assert run(text, server.url) == "[]"


def test_a_child_of_an_outage_asks_for_itself() -> None:
    server = RedisServer()
    with stopping(server):
        text = """
            import os, signal, sys, time
            from mintflow_realtime import Emitter
            from mintflow_realtime.errors import Unavailable

            emit = Emitter()
            emit.logs.append("acme", message="before")
            redis = int(sys.argv[1]) if len(sys.argv) > 1 else REDIS
            os.kill(redis, signal.SIGSTOP)
            try:
                emit.logs.append("acme", message="lost")
            except Unavailable:
                pass
            os.kill(redis, signal.SIGCONT)
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    emit.logs.append("acme", message="child")
                    code = 0
                finally:
                    os._exit(code)
            print(os.waitpid(pid, 0)[1])
        """
        assert server.process is not None
        text = text.replace("from mintflow_realtime.errors import", "from mintflow_realtime.protocol.errors import")
        assert run(text.replace("REDIS\n", f"{server.process.pid}\n"), server.url) == "0"


def test_fifty_threads_publish_at_once(server: RedisServer) -> None:
    text = """
        from concurrent.futures import ThreadPoolExecutor
        from mintflow_realtime import Emitter

        with Emitter() as emit, ThreadPoolExecutor(50) as pool:
            offsets = list(pool.map(lambda n: emit.publish("threads", "/board", "moved", n).offset, range(2000)))
        print(len(set(offsets)))
    """
    assert run(text, server.url) == "2000"


def test_threads_beside_gevent_have_connections_of_their_own(server: RedisServer) -> None:
    """One pool for all: sockets of another thread's hub, hangs, and innocent greenlets that fail."""
    text = """
        from gevent import monkey
        monkey.patch_all()
        import gevent
        from mintflow_realtime import Emitter

        emit = Emitter()
        publish = lambda n: emit.publish("hubs", "/board", "moved", n).offset
        publish(0)
        pool = gevent.get_hub().threadpool
        greenlets = [gevent.spawn(publish, n) for n in range(300)]
        threads = [pool.spawn(publish, n) for n in range(300)]
        gevent.joinall([*greenlets, *threads], timeout=30, raise_error=True)
        print(len({one.value for one in [*greenlets, *threads]}))
        emit.close()
    """
    assert run(text, server.url) == "600"


def test_asyncio_in_a_thread_publishes(server: RedisServer) -> None:
    text = """
        import asyncio
        from mintflow_realtime import Emitter

        async def main(emit):
            calls = [asyncio.to_thread(emit.publish, "async", "/board", "moved", n) for n in range(200)]
            return {found.offset for found in await asyncio.gather(*calls)}

        with Emitter() as emit:
            print(len(asyncio.run(main(emit))))
    """
    assert run(text, server.url) == "200"


def test_a_bare_emitter_imports_three_packages_and_patches_a_workspace(server: RedisServer) -> None:
    text = """
        import sys
        from importlib.abc import MetaPathFinder
        from importlib.util import find_spec

        ALLOWED = ["redis", "hiredis", "msgspec", "mintflow_realtime"]
        if sys.version_info < (3, 11, 3):
            ALLOWED.append("async_timeout")  # redis-py's own

        class Bare(MetaPathFinder):
            def find_spec(self, name, path=None, target=None):
                top = name.partition(".")[0]
                if top not in ALLOWED and top not in sys.stdlib_module_names:
                    raise ModuleNotFoundError(f"No module named {top!r}", name=top)
                return None

        sys.meta_path.insert(0, Bare())
        from mintflow_realtime import Emitter, errors

        with Emitter() as emit:
            emit.logs.append("bare", message="m")
            emit.workspaces.update("bare", "w", {"a": 1})
            emit.workspaces.update("bare", "w", patch=[{"op": "replace", "path": "/a", "value": 2}])
            print(emit.workspaces.get("bare", "w").state)
    """
    assert run(text, server.url) == "{'a': 2}"
