"""The entry points of the wheel: `mintflow`, and what `flask` finds of ours beside an application's own commands."""

import re
from pathlib import Path

import pytest

from tests.apps.environment import Environment
from tests.servers import SECRET

pytestmark = pytest.mark.timeout(300)


def test_without_the_server_the_command_says_which_extra_it_needs(bare: Environment) -> None:
    with pytest.raises(AssertionError, match=r"^mintflow: .+ needs click: pip install 'mintflow-realtime\[server\]'\n"):
        bare.run("mintflow", "version")


def test_an_application_that_only_publishes_keeps_its_own_commands(workers: Environment, tmp_path: Path) -> None:
    """flask loads the commands of every package before it looks for an application's own."""
    (tmp_path / "app.py").write_text(
        "from flask import Flask\n"
        "from mintflow_realtime import Emitter\n"
        "app = Flask(__name__)\n"
        "@app.cli.command()\n"
        "def greet(): print('hello')\n"
    )
    assert workers.run("flask", "--app", "app", "greet", cwd=tmp_path) == "hello\n"


def test_the_shop_s_commands_stand_beside_ours(shop_environment: Environment, shop: Path) -> None:
    flask = ("flask", "--app", "shop:app")
    assert shop_environment.run(*flask, "fill", cwd=shop, JWT_SECRET=SECRET) == ""
    said = shop_environment.run(*flask, "mintflow", "version", cwd=shop, JWT_SECRET=SECRET)
    assert re.search(re.escape(shop_environment.installed()["mintflow-realtime"]), said), said
