"""What the README says of settings and of the quick start is what the code has."""

import re

from mintflow_realtime.settings.table import table
from tests.servers import ROOT

README = (ROOT / "README.md").read_text()
QUICKSTART = (ROOT / "docs" / "quickstart.md").read_text()


def test_the_table_of_settings_is_the_codes() -> None:
    assert table() in README


def test_the_quick_start_names_things_that_exist() -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"setup", "run", "test", "check"} <= set(targets)
    assert set(re.findall(r"\bmake ([a-z]+)", README)) <= set(targets)


def test_every_link_of_the_documents_leads_to_a_file() -> None:
    for page in (ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_flask_application_is_the_quickstarts_which_is_run_from_the_wheel() -> None:
    """tests/apps/test_server_wheel.py does what docs/quickstart.md says."""
    blocks = [re.findall(r"```python\n(.*?)```", page, re.DOTALL) for page in (README, QUICKSTART)]
    flask = [[block for block in found if "SocketManager(app)" in block] for found in blocks]
    assert len(flask[0]) == 1 and flask[0] == flask[1]
