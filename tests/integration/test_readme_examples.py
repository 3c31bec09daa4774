"""What the README shows of publishing is what happens, as it stands there."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from mintflow_realtime import Emitter
from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.protocol.logs import LogHistory
from mintflow_realtime.protocol.wire_json import dumps
from tests.redis_fixture import PrivateRedis
from tests.servers import PYTHON_PATH, ROOT

README = (ROOT / "README.md").read_text()


def test_the_emitters_lines_publish_to_the_tenant_that_a_newcomer_sees(
    private_redis: PrivateRedis, tmp_path: Path
) -> None:
    (lines,) = (block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "Emitter()" in block)
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": PYTHON_PATH, "REDIS_URL": private_redis.url}
    done = subprocess.run(
        [sys.executable, "-c", lines], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    with Emitter(private_redis.url) as emit:
        who = Principal.system("default")
        logs = json.loads(dumps(emit.logs.read(who, LogHistory(flow_id="invoices"))))["logs"]
        run = json.loads(dumps(emit.flows.read(who, "invoices", "r-1")))["run"]
    assert [log["message"] for log in logs] == ["42 invoices read"]
    assert (run["status"], run["progress"]) == ("started", 40)
