"""The console in Debian's Chromium, through nginx: each panel, two tenants, killed workers, markup, and many lines.

`PICTURES=folder` keeps the pictures of the panels, light and dark.
"""

import json
import os
import secrets
import shutil
import subprocess
import time

import pytest

from mintflow_realtime.console.vendored import is_complete
from tests.browser.chromium import SCRIPTS, run_page
from tests.command import run
from tests.nginx import Nginx
from tests.redis_fixture import PrivateRedis
from tests.servers import Node, stopping, token


def tenant() -> str:
    return "acme-" + secrets.token_hex(4)


def test_signing_in(front: Nginx) -> None:
    done = run("console", "--url", front.url, "--tenant", tenant())
    two, narrow = token(tenants=["acme", "globex"]), token(tenants=[tenant()], scope="logs:read")
    run_page("sign_in.mjs", front.url, token(tenants=[tenant()]), done.stdout.strip(), two, narrow)


def test_a_token_that_ends_while_the_page_is_open(front: Nginx) -> None:
    name = tenant()
    # Within the leeway of 30 s, after which nobody can come in with it any more.
    soon = token(tenants=[name], exp=int(time.time()) - 8)
    run_page("ending.mjs", front.url, soon, token(tenants=[name]))


def test_nobody_who_may_do_nothing(shared_redis: PrivateRedis) -> None:
    node = Node(REDIS_URL=shared_redis.url, REDIS_PREFIX="nothing", SOCKET_ANONYMOUS_SCOPE="none", measured=False)
    with stopping(node):
        run_page("nothing.mjs", node.wait_ready().url, token(tenants=[tenant()]))


def test_runs_of_two_tenants(front: Nginx) -> None:
    run_page("runs.mjs", front.url, token(tenants=[tenant()]), token(tenants=[tenant()]))


def test_the_example_of_a_list(front: Nginx) -> None:
    run_page("example_runs.mjs", front.url, token(tenants=[tenant()]))


def test_logs(front: Nginx) -> None:
    run_page("logs.mjs", front.url, token(tenants=[tenant()]))


def test_lines_that_were_dropped_are_missed_where_they_were(front: Nginx) -> None:
    run_page("dropped.mjs", front.url, token(tenants=[tenant()]))


def test_a_page_that_could_not_go_on_fetches_anew(shared_redis: PrivateRedis) -> None:
    env = {"SOCKET_AUTH_REQUIRED": "true", "RECOVERY_WINDOW": "1", "DRAIN_SECONDS": "0"}
    node = Node(REDIS_URL=shared_redis.url, REDIS_PREFIX="anew", **env)
    with stopping(node):
        run_page("resync.mjs", node.wait_ready().url, token(tenants=[tenant()]))


def test_workspaces(front: Nginx) -> None:
    name = tenant()
    run_page("workspaces.mjs", front.url, token("ann", [name]), token("bob", [name]))


def test_ai(front: Nginx) -> None:
    run_page("ai.mjs", front.url, token(tenants=[tenant()]))


def test_connections(front: Nginx) -> None:
    name = tenant()
    users = [token(user, [name]) for user in ("ann", "bob", "eve")]
    run_page("connections.mjs", front.url, token("root", [name], scope="admin flows:read"), name, *users)


def test_why(front: Nginx) -> None:
    name = tenant()
    root = token("root", [name], scope="admin flows:read logs:read")
    run_page("why.mjs", front.url, root, name, token("ann", [name]), token("bob", [name]))


def test_markup_stays_text(front: Nginx) -> None:
    name = tenant()
    run_page(
        "markup.mjs", front.url, token("<b>eve</b>", [name], name="<img src=x onerror=alert(1)>"), token("ann", [name])
    )


def test_a_hundred_thousand_lines_are_kept_and_no_more() -> None:
    node = shutil.which("node")
    if node is None or not is_complete():
        pytest.skip("run `make setup`, with Node.js")
    command = [node, "--expose-gc", str(SCRIPTS / "lines.mjs")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    # A line of 100 characters and its fields.
    assert json.loads(done.stdout)["megabytes"] < 120


@pytest.mark.timeout(320)
def test_many_lines_are_never_felt(front: Nginx) -> None:
    # CONSOLE_SECONDS=60 is the minute that docs/console.md tells of.
    seconds = os.environ.get("CONSOLE_SECONDS", "20")
    figures = json.loads(run_page("performance.mjs", front.url, token(tenants=[tenant()]), seconds, seconds=300))
    print(figures)


# The last: its workers die.
def test_killed_workers(front: Nginx, console_node: Node) -> None:
    pids = [str(pid) for pid in console_node.workers()]
    name = tenant()
    address = run("console", "--url", front.url, "--tenant", name).stdout.strip()
    run_page("killed.mjs", front.url, token(tenants=[name]), address, *pids)
    console_node.wait_ready()
