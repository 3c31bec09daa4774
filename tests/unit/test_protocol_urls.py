"""URLs of Redis are split in the same way by every Python."""

import pytest

from mintflow_realtime.protocol.urls import SplitUrl, split_url


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("redis://h:1/2", SplitUrl("redis", "h:1", "/2", "")),
        ("REDISS://u:p@h", SplitUrl("rediss", "u:p@h", "", "")),
        ("unix:///a/b.sock?db=1", SplitUrl("unix", "", "/a/b.sock", "db=1")),
        ("redis+cluster://u%40:p@a:1,[::1]:2/0?x=y#z", SplitUrl("redis+cluster", "u%40:p@a:1,[::1]:2", "/0", "x=y")),
        ("nonsense", SplitUrl("", "", "", "")),
    ],
)
def test_the_parts_of_a_url(url: str, parts: SplitUrl) -> None:
    assert split_url(url) == parts


@pytest.mark.parametrize(
    ("netloc", "login"), [("h", ("", "")), ("u@h", ("u", "")), ("u:p:q@h", ("u", "p:q")), (":p@a,b", ("", "p"))]
)
def test_the_login(netloc: str, login: tuple[str, str]) -> None:
    assert split_url(f"redis://{netloc}").login == login


def test_half_a_bracket_is_refused() -> None:
    with pytest.raises(ValueError):
        split_url("redis://[::1/0")
