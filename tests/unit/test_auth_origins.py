"""Origins compared as browsers mean them, and whose pages may ask."""

import logging
import time
from typing import Any

import pytest

from mintflow_realtime.auth import origins
from mintflow_realtime.auth.origins import OriginPolicy, normalize

HERE = {"wsgi.url_scheme": "https", "HTTP_HOST": "rt.example.com"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://app.example.com", "https://app.example.com:443"),
        ("http://app.example.com:80", "http://app.example.com"),
        ("HTTPS://App.Example.COM", "https://app.example.com"),
        ("https://app.example.com:0443", "https://app.example.com"),
        ("http://[::1]:80", "http://[0:0:0:0:0:0:0:1]"),
        ("http://[2001:DB8::A]:8080", "http://[2001:db8::a]:8080"),
        ("https://müller.example.com", "https://xn--mller-kva.example.com"),
        ("capacitor://localhost", "capacitor://LOCALHOST"),
    ],
)
def test_equal_origins_compare_equal(one: str, other: str) -> None:
    assert normalize(one) == normalize(other) is not None
    assert OriginPolicy([one]).allows(other, HERE) and OriginPolicy([other]).allows(one, HERE)


@pytest.mark.parametrize(
    ("listed", "other"),
    [
        ("https://app.example.com", "http://app.example.com"),
        ("https://app.example.com", "https://app.example.com:80"),
        ("https://app.example.com", "https://app.example.com:8443"),
        ("http://app.example.com", "http://app.example.com:443"),
        ("https://app.example.com", "https://app.example.com.evil.test"),
        ("https://app.example.com", "https://evilapp.example.com"),
        ("https://app.example.com", "https://app.example.com."),
        ("https://app.example.com", "null"),
    ],
)
def test_others_do_not(listed: str, other: str) -> None:
    assert not OriginPolicy([listed]).allows(other, HERE)


@pytest.mark.parametrize(
    "bad",
    ["", "https://", "https:/a.test", "app.example.com", "//app.example.com", "https://a b", "https://a/", "https://a?x",
     "https://a#x", "https://u:p@a", "https://a:port", "https://a:1:2", "https://a:٤٤٣", "https://a..b", "https://.a",
     "https://[::1", "https://::1]", "https://[zz]", "https://[::1]x", "https://a:123456", "https://a\\b",
     "https://a\x00b".replace("\x00", "\n"), "null, https://a", "https://a, https://b", "ht tp://a",
     "https://" + "a" * 400],
)  # fmt: skip
def test_what_is_no_origin_is_refused(bad: str) -> None:
    assert normalize(bad) is None
    seen: list[str] = []
    assert not OriginPolicy(seen.append).allows(bad, {**HERE, "HTTP_HOST": bad}) and seen == []  # type: ignore[arg-type]


@pytest.mark.parametrize("scheme", ["https", "http"])
@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("rt.example.com", "{0}://rt.example.com"),
        ("RT.example.com", "{0}://rt.Example.com"),
        ("rt.example.com:{1}", "{0}://rt.example.com"),
        ("rt.example.com", "{0}://rt.example.com:{1}"),
        ("127.0.0.1:3000", "{0}://127.0.0.1:3000"),
        ("[::1]:3000", "{0}://[::1]:3000"),
    ],
)
def test_the_servers_own_origin_always_passes(scheme: str, host: str, origin: str) -> None:
    port = {"https": 443, "http": 80}[scheme]
    environ = {"wsgi.url_scheme": scheme, "HTTP_HOST": host.format(scheme, port)}
    for policy in (OriginPolicy(["https://other.test"]), OriginPolicy(lambda _: False)):
        assert policy.allows(origin.format(scheme, port), environ)
    other = {"https": "http", "http": "https"}[scheme]
    assert not OriginPolicy([]).allows(origin.format(scheme, port), {**environ, "wsgi.url_scheme": other})


def test_without_a_host_nothing_is_the_servers_own() -> None:
    for origin in ("null", "http://", "https://"):
        assert not OriginPolicy([]).allows(origin, {"wsgi.url_scheme": "https", "HTTP_HOST": ""})
        assert not OriginPolicy([]).allows(origin, {})


@pytest.mark.parametrize(
    ("member", "origin", "allowed"),
    [
        ("https://*.example.com", "https://a.example.com", True),
        ("https://*.example.com", "https://a.b.c.example.com", True),
        ("https://*.Example.com:443", "https://A.example.com", True),
        ("https://*.example.com", "https://a.example.com:443", True),
        ("https://*.example.com:8443", "https://a.example.com:8443", True),
        ("http://*.localhost:3000", "http://acme.localhost:3000", True),
        ("https://*.example.com", "https://example.com", False),
        ("https://*.example.com", "https://.example.com", False),
        ("https://*.example.com", "https://aexample.com", False),
        ("https://*.example.com", "http://a.example.com", False),
        ("https://*.example.com", "https://a.example.com:8443", False),
        ("https://*.example.com:8443", "https://a.example.com", False),
        ("https://*.example.com", "https://a.example.com.evil.test", False),
        ("https://*.example.com", "https://evil.test:80.example.com", False),
        ("https://*.example.com", "https://evil.test/.example.com", False),
        ("https://*.example.com", "https://evil.test#.example.com", False),
        ("https://*.example.com", "https://evil.test\\.example.com", False),
        ("https://*.example.com", "https://u@.example.com", False),
        ("https://*.example.com", "https://*.example.com.", False),
        ("https://*.example.com", "null", False),
    ],
)
def test_wildcards_stand_for_what_is_below(member: str, origin: str, allowed: bool) -> None:
    assert (
        OriginPolicy(["https://x.test", member]).allows(origin, {"wsgi.url_scheme": "http", "HTTP_HOST": "rt"})
        is allowed
    )


def test_null_passes_only_where_it_is_listed() -> None:
    assert OriginPolicy("*").allows("null", HERE) and OriginPolicy(["null"]).allows("null", HERE)
    assert not OriginPolicy(["https://a.test"]).allows("null", {"wsgi.url_scheme": "", "HTTP_HOST": ""})
    assert not OriginPolicy(["null"]).allows("https://null", HERE)


@pytest.mark.parametrize("bad", ["a.example.com", "https://a.test/", "https://*", "https://a.*.test", "https://[x]"])
def test_a_member_that_is_no_origin_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="no origin"):
        OriginPolicy([bad])


def test_a_function_decides(caplog: pytest.LogCaptureFixture) -> None:
    asked: list[str] = []

    def decide(origin: str) -> Any:
        asked.append(origin)
        return 1 / 0 if "fault" in origin else "good" in origin

    policy = OriginPolicy(decide)
    assert policy.allows("HTTPS://Good.test:443", HERE) and policy.allows("https://good.test", HERE)
    assert not policy.allows("https://bad.test", HERE) and not policy.allows("null", HERE)
    assert not policy.allows("https://fault.test", HERE) and "ZeroDivisionError" in caplog.text
    assert asked == ["https://good.test", "https://good.test", "https://bad.test", "null", "https://fault.test"]


def test_each_refused_origin_is_logged_once_and_not_without_end(caplog: pytest.LogCaptureFixture) -> None:
    policy = OriginPolicy(["https://a.test"])
    with caplog.at_level(logging.WARNING, "mintflow.auth"):
        for _ in range(3):
            policy.allows("https://b.test", HERE)
            policy.allows("https://c.test\nforged", HERE)
            policy.allows("https://a.test", HERE)
        first, second = (record.getMessage() for record in caplog.records)
        assert "'https://b.test'" in first and "SOCKET_CORS_ORIGIN" in first and "'https://rt.example.com'" in first
        assert "\n" not in second
        for number in range(3 * origins.MAX_LOGGED):
            policy.allows(f"https://{number}.test", HERE)
        assert len(caplog.records) == origins.MAX_LOGGED + 1 and "further" in caplog.records[-1].getMessage()
        assert len(policy._refused) == origins.MAX_LOGGED + 1


@pytest.mark.parametrize("part", ["a", ".", "a.", ":", "[", "-", "ü", "://", "%"])
def test_looking_at_an_origin_takes_no_time(part: str) -> None:
    policy = OriginPolicy([f"https://*.{number}.example.com" for number in range(50)])
    text = ("https://" + part * 16_000)[:16_000]
    began = time.process_time()
    for _ in range(10):
        policy.allows(text, HERE)
    assert time.process_time() - began < 0.5
