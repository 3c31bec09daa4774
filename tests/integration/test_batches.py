"""A batch of 1,000 records is several scripts, so that nobody waits for it; it is whole all the same."""

import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from mintflow_realtime.stores.redis.connect import connect as open_redis
from tests.plain_client import Plain
from tests.publishing_batch import RECORDS
from tests.servers import PYTHON_PATH, ROOT, Node, until
from tests.tenants import Tenant

LOGS = "/logs"
ALL = [str(number) for number in range(RECORDS)]
NewTenant = Callable[[Node], Tenant]


def heard(client: Plain, count: int = RECORDS) -> list[str]:
    return [client.told(LOGS, "new_log")["log"]["message"] for _ in range(count)]


def stored(client: Plain) -> list[str]:
    logs = client.call(LOGS, "log_history", {"limit": 1000})["data"]["logs"]
    return [log["message"] for log in logs]


@pytest.mark.parametrize("slices", [1, 10])
def test_what_a_killed_publisher_left_half_done_is_finished_by_any_node(
    two_workers: Node, new_tenant: NewTenant, slices: int
) -> None:
    tenant = new_tenant(two_workers)
    clients = [tenant.plain(LOGS) for _ in range(2)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.publishing_batch", tenant.name, str(slices)],
        cwd=ROOT,
        env={**two_workers.env, "PYTHONPATH": PYTHON_PATH},
        timeout=30,
    )
    assert done.returncode == -signal.SIGKILL
    for client in clients:
        assert heard(client) == ALL
    assert stored(clients[0]) == ALL
    tenant.log("behind")
    for client in clients:
        assert heard(client, 1) == ["behind"], "nothing came twice"


def test_a_large_batch_by_http_is_numbered_and_repeated_like_a_small_one(
    two_workers: Node, new_tenant: NewTenant
) -> None:
    tenant = new_tenant(two_workers)
    client = tenant.plain(LOGS)
    headers = {"Authorization": f"Bearer {tenant.token()}", "Idempotency-Key": "k"}
    body = [{"logLevel": "info", "message": message} for message in ALL]
    answers = [tenant.http("POST", "/logs", body, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    offsets = answers[0].json()["offsets"]
    epoch = offsets[0].rpartition("-")[0]
    assert offsets == [f"{epoch}-{number}" for number in range(1, RECORDS + 1)]
    assert answers[1].json() == answers[0].json()
    assert tenant.http("POST", "/logs", body[1:], headers=headers).status_code == 409
    assert heard(client) == ALL == stored(client)
    with open_redis(two_workers.env["REDIS_URL"]) as redis:
        assert until(lambda: redis.zcard("two:{-}:batches") == 0)
