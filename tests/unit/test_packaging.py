"""What pyproject.toml says of the package: it names what is imported, and admits what a checkout runs on."""

import ast
import os
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import mintflow_realtime
from tests.servers import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# An extra may bring another of ours.
EXTRAS = {
    name: [Requirement(line) for line in lines if not line.startswith("mintflow-realtime[")]
    for name, lines in PROJECT["optional-dependencies"].items()
}
BARE = [Requirement(line) for line in PROJECT["dependencies"]]
DIRECT, _, INDIRECT = (ROOT / "requirements.txt").read_text().partition("# What those need.")
# What is only ever imported by whom it is for.
PLUGINS = {("mintflow_realtime/testing/plugin.py", "pytest"), ("mintflow_realtime/celery.py", "celery")}
# A checkout runs without.
NOT_PINNED = {"opentelemetry-api", "opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"}


def pins(text: str) -> dict[str, str]:
    return {canonicalize_name(name): version for name, version in re.findall(r"^([\w.-]+)\S*==(\S+)$", text, re.M)}


def imported() -> Iterator[tuple[str, str]]:
    """Yield (file, top-level module) of every import of somebody else's, wherever in the file it stands."""
    for folder, _, files in os.walk(ROOT / "mintflow_realtime", followlinks=True):
        for path in (Path(folder, name) for name in files if name.endswith(".py")):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.level == 0:
                    names = [node.module or ""]
                for name in {name.partition(".")[0] for name in names} - {"mintflow_realtime", "tests"}:
                    if name not in sys.stdlib_module_names:
                        yield str(path.relative_to(ROOT)), name


def test_each_range_admits_the_version_that_a_checkout_runs_on() -> None:
    pinned = pins(DIRECT + INDIRECT)
    for requirement in [*BARE, *(one for extra in EXTRAS.values() for one in extra)]:
        name = canonicalize_name(requirement.name)
        assert (name in pinned) != (name in NOT_PINNED), f"{name} has no pin"
        if name in pinned:
            assert pinned[name] in requirement.specifier, f"{requirement} refuses {pinned[name]}"


def test_what_a_checkout_runs_on_is_declared() -> None:
    declared = {canonicalize_name(one.name) for one in [*BARE, *EXTRAS["server"], *EXTRAS["ai"]]}
    # examples/whiteboard.py applies, as a client, the patches that it is sent.
    assert set(pins(DIRECT)) - declared == {"jsonpatch"}


def test_what_the_package_imports_is_declared() -> None:
    owners = packages_distributions()
    declared = {canonicalize_name(one.name) for one in [*BARE, *(one for extra in EXTRAS.values() for one in extra)]}
    found = list(imported())
    assert {"redis", "flask", "jwt"} <= {name for _, name in found}, "the links to auth/ and namespaces/ are followed"
    for path, name in set(found) - PLUGINS:
        names = {canonicalize_name(owner) for owner in owners.get(name, [name])}
        assert names & declared, f"{path} imports {name}, which pyproject.toml doesn't name"


def test_the_bare_package_is_three_others() -> None:
    assert {one.name for one in BARE} == {"redis", "hiredis", "msgspec"}


def test_each_public_name_names_an_extra_that_exists() -> None:
    assert {extra for _, extra in mintflow_realtime._PUBLIC.values()} - {""} <= set(EXTRAS)
    for name in mintflow_realtime.__all__:
        assert getattr(mintflow_realtime, name), name
