"""The oracle, short: each fault once in one load. `make faults` is the long run. And the control that it can see."""

import os
import secrets

import pytest

from tests.cluster.oracle.control import CONTROL, run_control
from tests.cluster.oracle.faults import SHORT
from tests.cluster.oracle.model import directory, run
from tests.cluster.oracle.report import table, tally


@pytest.fixture
def seed() -> int:
    return int(os.environ.get("ORACLE_SEED") or secrets.randbits(32))


@pytest.mark.timeout(240)
def test_nothing_is_lost_told_twice_or_mixed_up_whatever_fails(seed: int) -> None:
    with directory() as where:
        outcome = run(where, SHORT, seed)
        told = table(outcome)
        print(told)
        assert len(outcome.publishes) > 2000, told
        assert not outcome.violations and not outcome.complaints, told


def test_the_checker_finds_what_the_stock_stack_loses(seed: int) -> None:
    with directory() as where:
        outcome = run_control(where, CONTROL, seed)
        told = table(outcome)
        print(told)
        found = tally(outcome)
        for kind in CONTROL:
            assert found[kind.name]["lost"] > 0, told
        assert sum(of["across tenants"] for of in found.values()) == 0, told
