"""The control of the oracle: it finds what the stock stack loses. `make faults` is the long run against ours."""

import os
import secrets

import pytest

from tests.cluster.oracle.control import CONTROL, run_control
from tests.cluster.oracle.model import directory
from tests.cluster.oracle.report import table, tally


@pytest.fixture
def seed() -> int:
    return int(os.environ.get("ORACLE_SEED") or secrets.randbits(32))


def test_the_checker_finds_what_the_stock_stack_loses(seed: int) -> None:
    with directory() as where:
        outcome = run_control(where, CONTROL, seed)
        told = table(outcome)
        print(told)
        found = tally(outcome)
        for kind in CONTROL:
            assert found[kind.name]["lost"] > 0, told
        assert sum(of["across tenants"] for of in found.values()) == 0, told
