"""`mintflow check`: each line with its outcome and what to do, of this machine and the Redis of its settings."""

import os
import re
import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command import environment, run, with_entry_points
from tests.redis_fixture import PrivateRedis
from tests.servers import ROOT, Node, free_port, stopping, until

COMMAND = "mintflow_realtime.cli"


def _checked(**env: str) -> tuple[int, dict[str, str], str]:
    """Return the exit code, what was found of each thing, outcome first, and the whole output."""
    done = run("check", **{"SOCKET_AUTH_REQUIRED": "true", **env})
    assert "Traceback" not in done.stderr, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith(("ok ", "warning ", "failed "))]
    return done.returncode, {line[9:21].strip(): line[:9].strip() + " " + line[22:] for line in rows}, done.stdout


def test_all_is_well(shared_redis: PrivateRedis, short_path: Path) -> None:
    code, found, text = _checked(
        REDIS_URL=shared_redis.url, DATA_DIR=str(short_path / "data"), SOCKET_MAX_CONNECTIONS="100"
    )
    assert code == 0, text
    assert all(line.startswith("ok ") for line in found.values()), text
    assert list(found) == [
        "settings", "descriptors", "data dir", "redis", "version", "role", "cluster", "memory", "rights", "latency",
    ]  # fmt: skip
    assert "→" not in text and text.endswith("10 ok.\n")
    assert not (short_path / "data").exists(), "nothing is made"
    with shared_redis.client() as client:
        assert not client.keys("*self-check*"), "nothing is left"


def test_an_embedded_redis(single_node: Node, short_path: Path) -> None:
    code, found, text = _checked(DATA_DIR=single_node.env["DATA_DIR"])
    assert code == 0, text
    assert found["embedded"].startswith("ok ") and found["rights"].startswith("ok ")
    code, found, text = _checked(DATA_DIR=str(short_path))
    assert code == 0 and found["redis"] == "ok the embedded Redis is not running; the server starts it"


def test_settings_that_cannot_be_used() -> None:
    code, found, text = _checked(PORT="many")
    assert (code, list(found)) == (1, ["settings"])
    assert "PORT must be a whole number" in text and "`mintflow settings` shows all" in text
    code, found, _ = _checked(SOCKET_AUTH_REQUIRED="false", REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    assert found["settings"].startswith("warning anybody may connect, to the tenant default")


def test_too_few_descriptors(shared_redis: PrivateRedis) -> None:
    code = (
        "import resource,runpy,sys;resource.setrlimit(resource.RLIMIT_NOFILE,(500,500));sys.argv=['mintflow','check']"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{code};runpy.run_module('{COMMAND}', run_name='__main__')"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment(REDIS_URL=shared_redis.url),
        timeout=60,
    )
    assert "warning  descriptors  500 allow 244 connections a worker, not 20000" in done.stdout, done.stderr
    assert "ulimit -Hn 20256" in done.stdout
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] > 500


def test_a_data_dir_that_cannot_be_written(short_path: Path) -> None:
    (short_path / "file").write_text("")
    code, found, text = _checked(DATA_DIR=str(short_path / "file" / "data"))
    assert code == 1 and found["data dir"].startswith("failed "), text
    if os.geteuid() != 0:
        short_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
        code, found, text = _checked(DATA_DIR=str(short_path / "data"))
        short_path.chmod(stat.S_IRWXU)
        assert code == 1 and "Permission denied" in text


def test_files_of_a_newer_redis(short_path: Path) -> None:
    (short_path / "redis-version").write_text("99.0.0\n")
    code, found, _ = _checked(DATA_DIR=str(short_path))
    assert code == 1 and "99.0.0" in found["embedded"]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://127.0.0.1:{port}/0", "nothing listens at redis://127.0.0.1:{port}/0"),
        ("redis://:hunter2@nobody.invalid:6379/0", "is not known"),
        ("unix:///tmp/mf-nobody.sock", "nothing listens at /tmp/mf-nobody.sock"),
    ],
)
def test_nobody_there(url: str, said: str) -> None:
    port = str(free_port())
    code, found, text = _checked(REDIS_URL=url.format(port=port))
    assert code == 1 and said.format(port=port) in found["redis"], text
    assert "hunter2" not in text


def test_a_redis_that_hangs(private_redis: PrivateRedis) -> None:
    private_redis.pause()
    code, found, _ = _checked(REDIS_URL=private_redis.url)
    private_redis.resume()
    assert code == 1 and "does not answer within a second" in found["redis"]


def test_passwords_and_databases() -> None:
    server = PrivateRedis(None, "--databases", "2")
    with stopping(server), server.client() as client:
        client.config_set("requirepass", "hunter2-is-a-secret")
        code, found, text = _checked(REDIS_URL=server.url)
        assert code == 1 and "refuses the password" in found["redis"]
        code, found, text = _checked(REDIS_URL=f"unix://:another-secret@{server.path}")
        assert code == 1 and "refuses the password" in found["redis"] and "another-secret" not in text
        code, found, text = _checked(REDIS_URL=f"unix://:hunter2-is-a-secret@{server.path}?db=7")
        assert code == 1 and "there is no such database" in found["redis"] and "hunter2" not in text


def test_rights_that_are_missing(private_redis: PrivateRedis) -> None:
    url = f"unix://bob:word-of-bob@{private_redis.path}"
    with private_redis.client() as client:

        def may(*rules: str) -> tuple[int, dict[str, str], str]:
            client.execute_command("ACL", "SETUSER", "bob", "reset", "on", ">word-of-bob", *rules)
            return _checked(REDIS_URL=url)

        code, found, _ = may("~mf0:*", "+@all", "&mf0:*", "-xadd", "-evalsha")
        assert code == 1
        assert found["rights"] == "failed not allowed: +xadd +evalsha &socketio"
        code, found, _ = may("~other:*", "+@all", "allchannels")
        assert code == 1 and found["rights"] == "failed not allowed: ~mf0:*"
        code, found, text = may("~mf0:*", "+@all", "resetchannels", "-subscribe", "-info")
        assert code == 1 and found["version"].startswith("warning INFO is not allowed")
        assert found["rights"] == "failed not allowed: +info &mf0:* +subscribe"
        code, found, text = may("~mf0:*", "allchannels", "-@all", "+set")
        assert code == 1 and "no permissions" in found["redis"]
        # Nothing is missing where the line is taken that it gives.
        (line,) = re.findall(r"→ ACL SETUSER bob (.*)", text)
        code, found, text = may(*line.split())
        assert code == 0 and found["rights"].startswith("ok "), text
        # And a server has all that it needs.
        node = Node(REDIS_URL=url).wait_ready()
        with stopping(node):
            done = run("publish", "log", "hello", REDIS_URL=url)
            assert done.returncode == 0, done.stderr


def test_what_it_should_not_be() -> None:
    directory = PrivateRedis()
    replica = PrivateRedis()
    with stopping(directory, replica):
        with replica.client() as client, directory.client() as master:
            port = free_port()
            master.config_set("port", str(port))
            client.replicaof("127.0.0.1", port)
            until(lambda: client.info("replication")["role"] == "slave", 10)
            code, found, text = _checked(REDIS_URL=replica.url)
            assert code == 1 and found["role"] == "failed a replica, which takes no writes"
            assert f"Name its master, 127.0.0.1:{port}" in text
            client.replicaof("NO", "ONE")
            client.config_set("maxmemory-policy", "allkeys-lru")
            client.config_set("maxmemory", "100mb")
            code, found, text = _checked(REDIS_URL=replica.url)
            assert code == 0 and found["memory"] == "warning maxmemory-policy is allkeys-lru"
            assert "CONFIG SET maxmemory-policy noeviction" in text
            code, found, text = _checked(REDIS_URL=f"redis+cluster://127.0.0.1:{port}")
            assert code == 1 and "is a single server, under the URL of a cluster" in found["redis"]


@pytest.fixture
def cluster_node() -> Iterator[int]:
    """A single node with cluster-enabled, by its port."""
    port = free_port()
    server = PrivateRedis(None, "--cluster-enabled", "yes", "--port", str(port), "--cluster-port", str(free_port()))
    with stopping(server):
        with server.client() as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            until(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok", 20)
        yield port


def test_a_cluster_by_mistake(cluster_node: int) -> None:
    code, found, text = _checked(REDIS_URL=f"redis://127.0.0.1:{cluster_node}/0")
    assert code == 1, text
    assert found["cluster"] == "failed a node of a cluster, under the URL of a single server"
    assert f"redis+cluster://127.0.0.1:{cluster_node}" in text


def test_under_flask_the_applications_settings_count(shared_redis: PrivateRedis, short_path: Path) -> None:
    (short_path / "shop.py").write_text(
        "from flask import Flask\nfrom mintflow_realtime import SocketManager\n"
        "app = Flask(__name__)\n"
        f"app.config.update(MINTFLOW_REDIS_URL={shared_redis.url!r}, MINTFLOW_SOCKET_AUTH_REQUIRED=True)\n"
    )
    env = {"PYTHONPATH": with_entry_points(short_path), "REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
    done = run("--app", "shop", "mintflow", "check", module="flask", cwd=short_path, **env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"ok       redis        {shared_redis.path} answers" in done.stdout
    done = run("--app", "shop", "mintflow", "settings", "REDIS_URL", module="flask", cwd=short_path, **env)
    assert done.stdout.split() == ["REDIS_URL", shared_redis.url, "app.config"]
    (short_path / "shop.py").write_text(
        "from flask import Flask\napp = Flask(__name__)\napp.config['MINTFLOW_PORT']='x'\n"
    )
    done = run("--app", "shop", "mintflow", "check", module="flask", cwd=short_path, **env)
    assert done.returncode == 1 and "MINTFLOW_PORT" in done.stdout and "Traceback" not in done.stderr
    done = run("mintflow", "check", module="flask", cwd=Path("/"), **env)
    assert done.returncode == 2 and "Could not locate a Flask application" in done.stderr
