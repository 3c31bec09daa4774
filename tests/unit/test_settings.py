"""Settings: defaults, every refusal with its sentence, and the table."""

import dataclasses
import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from mintflow_realtime.auth.origins import OriginPolicy
from mintflow_realtime.protocol.ids import TENANT_PATTERN
from mintflow_realtime.settings import settings as config
from mintflow_realtime.settings.settings import SETTINGS, SettingError, Settings

ROOT = Path(__file__).resolve().parents[2]
SECRET = "f3b1c6d80e9a47524c1fd0a86b97e23534aa10cf98e7b6d5"
PEM = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----"


def refusal(**env: str) -> str:
    with pytest.raises(SettingError) as caught:
        Settings.from_env(env)
    return str(caught.value)


def test_defaults() -> None:
    settings = Settings.from_env({})
    assert (settings.port, settings.web_concurrency, settings.log_level) == (3000, 2, "info")
    assert settings.data_dir == os.path.abspath("data")
    assert settings.redis_url == f"unix://{settings.data_dir}/redis.sock"
    assert settings.embedded and settings.redis_prefix == "mf0"
    assert not settings.auth_required and settings.socket_path == "/socket.io"
    assert settings.cors_origin == "*" and settings.cors_methods == ("GET", "POST", "PUT", "DELETE")
    assert settings.anonymous_tenants == ("default",)
    assert set(settings.anonymous_scope) == set(config.SCOPES) - {"logs:clear", "ai:use", "flows:control"}
    assert (settings.ping_interval, settings.ping_timeout) == (25.0, 20.0)
    assert settings.transports == ("polling", "websocket")
    assert settings.jwt_secret is None and settings.jwt_algorithms == ("HS256",)
    assert settings.api_keys == {}
    assert (settings.recovery_window, settings.recovery_max_bytes) == (600, 64 * 1024 * 1024)


def test_an_empty_value_counts_as_unset() -> None:
    assert Settings.from_env({setting.name: " " for setting in SETTINGS}) == Settings.from_env({})


def test_every_row_of_the_table_is_read_and_every_field_has_a_row() -> None:
    read: set[str] = set()

    class Spy(dict[str, str]):
        def get(self, name: str, default: str = "") -> str:  # type: ignore[override]
            read.add(name)
            return default

    Settings.from_env(Spy())
    assert read == {spelled for setting in SETTINGS for spelled in (setting.name, f"MINTFLOW_{setting.name}")}
    named = {setting.name.lower().removeprefix("socket_") for setting in SETTINGS}
    fields = {field.name for field in dataclasses.fields(Settings)} - {"embedded", "warnings", "redis_called"}
    assert fields - {"socket_path"} <= named


@pytest.mark.parametrize("name", [setting.name for setting in SETTINGS if setting.type in ("integer", "bytes")])
@pytest.mark.parametrize("bad", ["x", "-1", "1.5", "1e3", "9" * 5000, "99999999999999999"])
def test_whole_numbers_are_checked(name: str, bad: str) -> None:
    assert refusal(**{name: bad}).startswith(f"{name} must be a whole number from ")


@pytest.mark.parametrize("name", [setting.name for setting in SETTINGS if setting.type == "seconds"])
@pytest.mark.parametrize("bad", ["x", "0", "-3", "nan", "inf", "99999999999999999"])
def test_seconds_are_checked(name: str, bad: str) -> None:
    if (name, bad) == ("DRAIN_SECONDS", "0"):
        assert Settings.from_env({"DRAIN_SECONDS": "0"}).drain_seconds == 0, "all connections at once"
    else:
        assert refusal(**{name: bad}).startswith(f"{name} must be a ")


@pytest.mark.parametrize("name", [setting.name for setting in SETTINGS if setting.type == "boolean"])
def test_booleans_are_checked(name: str) -> None:
    assert refusal(**{name: "maybe"}) == f"{name} must be true or false, not 'maybe'."


def test_fractions_of_seconds() -> None:
    settings = Settings.from_env({"SOCKET_PING_INTERVAL": "0.3", "SOCKET_PING_TIMEOUT": "0.2"})
    assert (settings.ping_interval, settings.ping_timeout) == (0.3, 0.2)


@pytest.mark.parametrize(
    ("env", "prefix"),
    [
        ({"REDIS_URL": "redis://redis:6379"}, "mf0"),
        ({"REDIS_URL": "redis://redis:6379/3"}, "mf3"),
        ({"REDIS_URL": "redis://redis:6379/3?db=4"}, "mf4"),
        ({"REDIS_URL": "rediss://:word@redis/2"}, "mf2"),
        ({"REDIS_URL": "unix:///run/redis/redis.sock"}, "mf0"),
        ({"REDIS_URL": "unix:///run/redis.sock?db=5"}, "mf5"),
        ({"REDIS_URL": "redis+sentinel://a:1,b:2/6/main"}, "mf6"),
        ({"REDIS_URL": "redis+cluster://a:1,b:2"}, "mf0"),
        ({"REDIS_URL": "rediss+cluster://:word@a:1,b:2/0"}, "mf0"),
        ({"REDIS_URL": "redis://redis/3", "REDIS_PREFIX": "shop"}, "shop"),
    ],
)
def test_the_prefix_follows_the_database(env: dict[str, str], prefix: str) -> None:
    settings = Settings.from_env(env)
    assert settings.redis_prefix == prefix
    assert settings.redis_url == env["REDIS_URL"] and not settings.embedded


def test_redis_from_its_parts() -> None:
    settings = Settings.from_env({"REDIS_HOST": "r1", "REDIS_PORT": "7000", "REDIS_PASSWORD": "a/b@c", "REDIS_DB": "2"})
    assert settings.redis_url == "redis://:a%2Fb%40c@r1:7000/2"
    assert settings.redis_prefix == "mf2" and not settings.embedded
    assert Settings.from_env({"REDIS_HOST": "::1"}).redis_url == "redis://[::1]:6379/0"
    # One of the others alone doesn't leave one with the embedded server.
    assert Settings.from_env({"REDIS_DB": "1"}).redis_url == "redis://127.0.0.1:6379/1"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis+cluster://:hunter2hunter2@a:1,b:2/3", "must not name a database"),
        ("http://redis", "must be of redis://"),
        ("redis://:hunter2hunter2@redis/main", "must name its database by a number"),
        ("redis://[::1", "is no URL"),
    ],
)
def test_redis_urls_that_are_refused(url: str, says: str) -> None:
    sentence = refusal(REDIS_URL=url)
    assert sentence.startswith("REDIS_URL ") and says in sentence and "hunter2" not in sentence


def test_what_kubernetes_sets_for_a_service_called_redis_is_ignored_and_said() -> None:
    env = {
        "REDIS_PORT": "tcp://10.0.0.1:6379",
        "REDIS_SERVICE_HOST": "10.0.0.1",
        "REDIS_PORT_6379_TCP_ADDR": "10.0.0.1",
    }
    settings = Settings.from_env(env)
    assert settings.embedded
    (sentence,) = settings.warnings
    assert sentence.startswith("REDIS_PORT is what Kubernetes sets") and "REDIS_URL=redis://redis:6379/0" in sentence
    assert Settings.from_env({**env, "REDIS_HOST": "r1"}).redis_url == "redis://r1:6379/0"
    settings = Settings.from_env({**env, "REDIS_URL": "redis://r"})
    assert settings.redis_url == "redis://r" and settings.warnings == ()
    # What an application says there is no service's.
    with pytest.raises(SettingError, match="must be a whole number"):
        Settings.load({"MINTFLOW_REDIS_PORT": "tcp://10.0.0.1:6379"}, {})


def test_data_dir_may_be_deep() -> None:
    deep = "/ü/" + "d" * 200
    assert Settings.from_env({"DATA_DIR": deep}).data_dir == deep
    assert Settings.from_env({"DATA_DIR": "/srv/a b"}).redis_url == "unix:///srv/a%20b/redis.sock"


def test_auth_required_needs_a_key() -> None:
    assert "JWT_SECRET, JWT_PUBLIC_KEY or TICKET_SECRET" in refusal(SOCKET_AUTH_REQUIRED="true")
    assert Settings.from_env({"SOCKET_AUTH_REQUIRED": "true", "JWT_SECRET": SECRET}).auth_required
    env = {"SOCKET_AUTH_REQUIRED": "1", "JWT_PUBLIC_KEY": PEM.replace("\n", "\\n"), "JWT_ALGORITHMS": "ES256, RS256"}
    settings = Settings.from_env(env)
    assert settings.jwt_public_key == PEM and settings.jwt_algorithms == ("ES256", "RS256")


@pytest.mark.parametrize(
    "guessable",
    [
        "secret" * 8,
        "a" * 40,
        "changeme" * 5,
        "changemechangemechangemechangem",
        "your-256-bit-secret-your-256-bit-secret",
        "super-secret-jwt-key-change-in-production",
        "please-change-this-secret-key-to-something",
        "0123456789abcdef" * 2,
        "12345678901234567890123456789012",
        "abcdefghijklmnopqrstuvwxyz0123456789",
        "this-is-a-very-long-secret-key-for-jwt-signing",
        "SECRET_KEY_SECRET_KEY_SECRET_KEY_",
        "ab" * 20,
        "x7Kq2" * 9,
        PEM,
        "k" * 31,
    ],
)
@pytest.mark.parametrize("name", ["JWT_SECRET", "TICKET_SECRET", "API_KEYS"])
def test_guessable_secrets_are_refused_without_showing_them(name: str, guessable: str) -> None:
    value = f"{guessable.replace(':', '')}:acme" if name == "API_KEYS" else guessable
    sentence = refusal(**{name: value})
    assert sentence.startswith(f"{name} ") and guessable not in sentence


def test_random_secrets_are_accepted() -> None:
    for made in (
        secrets.token_hex(32),
        secrets.token_urlsafe(32),
        "".join(secrets.choice("0123456789") for _ in range(64)),
    ):
        assert Settings.from_env({"JWT_SECRET": made, "TICKET_SECRET": made}).jwt_secret == made


def test_longer_hashes_need_longer_secrets() -> None:
    assert "at least 48 bytes" in refusal(JWT_SECRET=SECRET[:40], JWT_ALGORITHMS="HS384")
    assert "at least 64 bytes" in refusal(JWT_SECRET=SECRET, JWT_ALGORITHMS="HS256,HS512")


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"JWT_ALGORITHMS": "none"}, "has 'none'; known are HS256"),
        ({"JWT_ALGORITHMS": "HS256,NONE"}, "has 'NONE'"),
        ({"JWT_ALGORITHMS": "HS1"}, "has 'HS1'"),
        ({"JWT_ALGORITHMS": ","}, "must have a member"),
        ({"JWT_ALGORITHMS": "RS256"}, "has RS256, which needs JWT_PUBLIC_KEY"),
        ({"JWT_ALGORITHMS": "RS256", "JWT_SECRET": SECRET}, "has RS256, which needs JWT_PUBLIC_KEY"),
        ({"JWT_PUBLIC_KEY": PEM}, "has HS256, which needs JWT_SECRET"),
    ],
)
def test_each_algorithm_needs_its_key(env: dict[str, str], says: str) -> None:
    sentence = refusal(**env)
    assert sentence.startswith("JWT_ALGORITHMS ") and says in sentence


def test_keys_in_the_wrong_place() -> None:
    assert "PEM key" in refusal(JWT_SECRET=PEM)
    assert "private key" in refusal(JWT_PUBLIC_KEY=PEM.replace("PUBLIC", "PRIVATE"), JWT_ALGORITHMS="RS256")
    assert "PEM form" in refusal(JWT_PUBLIC_KEY="/etc/key.pem", JWT_ALGORITHMS="RS256")


def test_cors() -> None:
    assert refusal(SOCKET_CORS_CREDENTIALS="true").startswith("SOCKET_CORS_CREDENTIALS needs a list of origins")
    env = {"SOCKET_CORS_CREDENTIALS": "true", "SOCKET_CORS_ORIGIN": "https://a.example, http://localhost:5173"}
    assert Settings.from_env(env).cors_origin == ("https://a.example", "http://localhost:5173")
    for bad in (
        *(
            "https://a.example/",
            "a.example",
            "*,https://a.example",
            "https://*.example",
            "https://*",
            "https://a.*.example",
        ),
        *("https://[1:2]", "https://[::1", "https://a..example", "https://a:x", "http://a b", "https://a:1:2", "://a"),
    ):
        assert refusal(SOCKET_CORS_ORIGIN=bad).startswith("SOCKET_CORS_ORIGIN "), bad
    good = ("HTTPS://A.example:443", "https://*.a.example:8443", "http://*.localhost:3000", "http://[::1]:3000", "null")
    listed = Settings.from_env({"SOCKET_CORS_ORIGIN": ",".join(good)}).cors_origin
    assert listed == good and OriginPolicy(listed)
    env["SOCKET_CORS_ORIGIN"] += ",null"
    assert refusal(**env).startswith("SOCKET_CORS_CREDENTIALS does not go with null")
    assert Settings.load({"MINTFLOW_SOCKET_CORS_ORIGIN": str.isupper}, {}).cors_origin == str.isupper


def test_api_keys() -> None:
    other = SECRET[::-1]
    assert Settings.from_env({"API_KEYS": f"{SECRET}:acme, {other}:beta,"}).api_keys == {SECRET: "acme", other: "beta"}
    assert "pair 2 has no valid tenant" in refusal(API_KEYS=f"{SECRET}:acme,{other}")
    assert "no valid tenant" in refusal(API_KEYS=f"{SECRET}:-")
    assert "twice" in refusal(API_KEYS=f"{SECRET}:acme,{SECRET}:beta")
    assert "visible ASCII" in refusal(API_KEYS=f"{SECRET}ü:acme")


def test_tenants_and_scopes() -> None:
    assert config.ID_PATTERN == TENANT_PATTERN
    assert Settings.from_env({"SOCKET_ANONYMOUS_TENANTS": "a,b,a"}).anonymous_tenants == ("a", "b")
    for bad in ("-", "a b", "a:b", "{a}", "a" * 129):
        assert refusal(SOCKET_ANONYMOUS_TENANTS=bad).startswith("SOCKET_ANONYMOUS_TENANTS ")
    assert Settings.from_env({"SOCKET_ANONYMOUS_SCOPE": "logs:read ai:use"}).anonymous_scope == ("logs:read", "ai:use")
    assert Settings.from_env({"SOCKET_ANONYMOUS_SCOPE": "none"}).anonymous_scope == ()
    assert "has the scope 'admin'" in refusal(SOCKET_ANONYMOUS_SCOPE="logs:read,admin")


def test_names_and_paths() -> None:
    assert Settings.from_env({"SOCKET_PATH": "/rt/io/"}).socket_path == "/rt/io"
    for name, bad in (("SOCKET_PATH", "io"), ("SOCKET_PATH", "/"), ("SOCKET_PATH", "/a b"), ("REDIS_PREFIX", "{a}")):
        assert refusal(**{name: bad}).startswith(f"{name} must match ")
    assert refusal(LOG_LEVEL="loud").startswith("LOG_LEVEL must be one of debug, ")
    assert Settings.from_env({"LOG_LEVEL": "WARNING"}).log_level == "warning"
    assert refusal(SOCKET_TRANSPORTS="websocket,webtransport").startswith("SOCKET_TRANSPORTS ")


def test_secrets_are_not_shown() -> None:
    env = {
        "JWT_SECRET": SECRET,
        "TICKET_SECRET": SECRET,
        "API_KEYS": f"{SECRET}:a",
        "REDIS_URL": f"redis://:{SECRET}@r",
    }
    assert SECRET not in repr(Settings.from_env(env))


def test_the_table_needs_nothing_but_the_standard_library() -> None:
    printed = subprocess.run(
        [sys.executable, "-S", "-m", "mintflow_realtime.settings.settings"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    ).stdout
    rows = printed.splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == [setting.name for setting in SETTINGS]
    assert all(row.count("|") == 5 for row in rows)
