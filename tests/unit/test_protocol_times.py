"""Times: always the same width, so that the order of texts is the order of times."""

import time
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mintflow_realtime.protocol.times import iso, now_ms


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_769_847_330_123, "2026-01-31T08:15:30.123Z"),
        (1_769_847_330_999, "2026-01-31T08:15:30.999Z"),
        (1_769_847_331_000, "2026-01-31T08:15:31.000Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_a_moment_as_text(milliseconds: int, text: str) -> None:
    assert iso(milliseconds) == text


@given(st.integers(0, 253_402_300_799_999), st.integers(0, 253_402_300_799_999))
def test_texts_sort_like_moments_and_read_back_exactly(one: int, other: int) -> None:
    assert (iso(one) < iso(other)) == (one < other)
    moment = datetime.fromisoformat(iso(one))
    assert round(moment.timestamp() * 1000) == one and len(iso(one)) == 24


def test_now_is_the_wall_clock() -> None:
    assert abs(now_ms() - time.time() * 1000) < 1000
