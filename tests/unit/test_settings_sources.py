"""Where settings come from, how each is spelled in a refusal, and names that are slips in ours."""

import logging
import secrets
from pathlib import Path
from typing import Any

import pytest

from mintflow_realtime.emitter import Emitter
from mintflow_realtime.settings.cores import cores
from mintflow_realtime.settings.names import nearest, one_slip
from mintflow_realtime.settings.publisher import NAMES
from mintflow_realtime.settings.settings import SETTINGS, PublisherSettings, SettingError, Settings
from mintflow_realtime.settings.sources import origins, overview, shown

SECRET = "f3b1c6d80e9a47524c1fd0a86b97e23534aa10cf98e7b6d5"
OTHER = "9c2e74b1d05f8a36e1b74c0d92f6a8355e07d1c4b98a2f63"


def refusal(config: dict[str, Any] | None = None, **env: str) -> str:
    with pytest.raises(SettingError) as caught:
        Settings.load(config, env)
    return str(caught.value)


def test_app_config_goes_first_then_the_prefixed_name_then_the_plain_one() -> None:
    config, env = {"MINTFLOW_PORT": 1}, {"MINTFLOW_PORT": "2", "PORT": "3"}
    assert Settings.load(config, env).port == 1
    assert Settings.load({"MINTFLOW_PORT": None, "PORT": 9}, env).port == 2
    assert Settings.load({}, {"PORT": "3", "MINTFLOW_PORT": " "}).port == 3
    assert Settings.load(None, {}).port == 3000


def test_values_of_app_config_have_their_own_types(tmp_path: Path) -> None:
    settings = Settings.load(
        {
            "MINTFLOW_PORT": 0,
            "MINTFLOW_SOCKET_AUTH_REQUIRED": True,
            "MINTFLOW_SOCKET_CORS_CREDENTIALS": False,
            "MINTFLOW_SOCKET_PING_INTERVAL": 1,
            "MINTFLOW_SOCKET_PING_TIMEOUT": 0.5,
            "MINTFLOW_SOCKET_CORS_ORIGIN": ["https://a.example", "https://b.example"],
            "MINTFLOW_SOCKET_TRANSPORTS": ("websocket",),
            "MINTFLOW_SOCKET_ANONYMOUS_SCOPE": [],
            "MINTFLOW_API_KEYS": {SECRET: "acme", OTHER: "beta"},
            "MINTFLOW_JWT_SECRET": SECRET,
            "MINTFLOW_DATA_DIR": Path("/srv/x"),
            "MINTFLOW_LOG_LEVEL": logging.WARNING,
            "MINTFLOW_HOST_ID": 0,
            "MINTFLOW_RUNS_TTL": "60",
            "SECRET_KEY": "the application's own",
            "JWT_SECRET_KEY": "another extension's",
        },
        {},
    )
    assert (settings.port, settings.auth_required, settings.cors_credentials, settings.host_id) == (0, True, False, 0)
    assert (settings.ping_interval, settings.ping_timeout, settings.runs_ttl) == (1.0, 0.5, 60)
    assert settings.cors_origin == ("https://a.example", "https://b.example")
    assert settings.transports == ("websocket",) and settings.anonymous_scope == ()
    assert settings.api_keys == {SECRET: "acme", OTHER: "beta"}
    assert settings.data_dir == "/srv/x" and settings.log_level == "warning"


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("PORT", True, "must be a whole number from 0 to 65535, not True."),
        ("PORT", 3000.0, "must be a whole number from 0 to 65535, not 3000.0."),
        ("PORT", [3000], "must be a whole number from 0 to 65535, not [3000]."),
        ("PORT", "x", "must be a whole number from 0 to 65535, not 'x'."),
        ("SOCKET_PING_INTERVAL", "soon", "must be a number from 0.05 to 3600, not 'soon'."),
        ("SOCKET_PING_INTERVAL", True, "must be a number from 0.05 to 3600, not True."),
        ("SOCKET_PING_INTERVAL", float("nan"), "must be a number from 0.05 to 3600, not nan."),
        ("SOCKET_AUTH_REQUIRED", 2, "must be true or false, not 2."),
        ("SOCKET_AUTH_REQUIRED", [], "must be true or false, not []."),
        ("SOCKET_TRANSPORTS", 7, "must be a list of texts, or one text with commas, not 7."),
        ("SOCKET_TRANSPORTS", [7], "must be a list of texts, or one text with commas, not [7]."),
        ("SOCKET_TRANSPORTS", [], "must have a member."),
        ("SOCKET_PATH", 7, "must be text, not 7."),
        ("JWT_ISSUER", 7, "must be text, not 7."),
        ("LOG_LEVEL", 11, "must be one of debug, info, warning, error, critical, not 11."),
        ("AI_BACKEND", 1, "must be one of openai, echo, not 1."),
        ("DATA_DIR", 5, "must be a path, not 5."),
        ("JWT_SECRET", 12345678, "must be text."),
        ("JWT_PUBLIC_KEY", b"-----BEGIN PRIVATE KEY-----", "must be text."),
        ("REDIS_URL", b"redis://:hunter2@r", "must be text."),
        ("REDIS_PASSWORD", 12345678, "must be text."),
        ("OPENAI_API_KEY", 12345678, "must be text."),
        ("API_KEYS", {SECRET: 5}, "must have texts as keys and tenants."),
        ("API_KEYS", [SECRET], "must be key:tenant pairs; pair 1 has no valid tenant."),
        ("API_KEYS", 12345678, "must be a list of texts, or one text with commas."),
    ],
)
def test_a_wrong_type_in_app_config_is_one_sentence(name: str, value: Any, fault: str) -> None:
    config = {f"MINTFLOW_{name}": value, **({"MINTFLOW_REDIS_HOST": "r"} if name == "REDIS_PASSWORD" else {})}
    assert refusal(config) == f"MINTFLOW_{name} in app.config {fault}"


@pytest.mark.parametrize("name", [setting.name for setting in SETTINGS])
def test_every_setting_refuses_an_object_of_another_kind_by_its_name(name: str) -> None:
    config: dict[str, Any] = {"MINTFLOW_REDIS_DB": 0} if name.startswith("REDIS_") and name != "REDIS_URL" else {}
    sentence = refusal({**config, f"MINTFLOW_{name}": object()})
    assert sentence.startswith(f"MINTFLOW_{name} in app.config must ")


def test_the_sentence_has_the_spelling_of_the_environment() -> None:
    assert refusal(MINTFLOW_PORT="x").startswith("MINTFLOW_PORT must be a whole number")
    assert refusal(PORT="x").startswith("PORT must be a whole number")
    assert refusal(MINTFLOW_JWT_SECRET="short").startswith("MINTFLOW_JWT_SECRET must have at least 32 bytes")
    assert refusal(MINTFLOW_SOCKET_AUTH_REQUIRED="yes").startswith("MINTFLOW_SOCKET_AUTH_REQUIRED needs a key")


def test_who_admits_by_tickets_alone_needs_no_key_of_tokens() -> None:
    config = {"MINTFLOW_SOCKET_AUTH_REQUIRED": True, "MINTFLOW_TICKET_SECRET": secrets.token_hex(32)}
    settings = Settings.load(config, {})
    assert settings.auth_required and settings.jwt_secret is None


def test_a_host_of_the_application_goes_before_a_url_of_the_environment() -> None:
    assert Settings.load({"MINTFLOW_REDIS_HOST": "r1"}, {"REDIS_URL": "redis://r2"}).redis_url == "redis://r1:6379/0"
    assert Settings.load({}, {"REDIS_HOST": "r1", "REDIS_URL": "redis://r2"}).redis_url == "redis://r2"
    assert Settings.load({"MINTFLOW_REDIS_DB": 3}, {"REDIS_URL": "redis://r2"}).redis_url == "redis://r2"
    assert Settings.load({"MINTFLOW_REDIS_URL": "redis://r1"}, {}, "redis://r3").redis_url == "redis://r3"


def test_usual_spellings() -> None:
    levels = {"WARN": "warning", "warn": "warning", "FATAL": "critical", "notset": "debug", "30": "warning"}
    for spelled, level in levels.items():
        assert Settings.from_env({"LOG_LEVEL": spelled}).log_level == level
    for spelled in ("yes", "ON", "True", "1"):
        assert Settings.from_env(
            {"SOCKET_CORS_CREDENTIALS": spelled, "SOCKET_CORS_ORIGIN": "http://a"}
        ).cors_credentials
    assert 1 <= Settings.from_env({"WEB_CONCURRENCY": "auto"}).web_concurrency == cores()
    for host in ("", "*"):
        assert Settings.from_env({"HOST": host}).host == ""
    for spelled, host in {"[::1]": "::1", "::": "::", "127.0.0.1": "127.0.0.1", "localhost": "localhost"}.items():
        assert Settings.from_env({"HOST": spelled}).host == host
    for bad in ("127.0.0.1:3000", "a b", "http://x", "unix:/tmp/x"):
        assert refusal(HOST=bad).startswith("HOST must be an address or a name without a port")
    assert Settings.from_env({"FORWARDED_ALLOW_IPS": "10.0.0.0/8, ::1"}).forwarded_allow_ips == ("10.0.0.0/8", "::1")
    assert Settings.from_env({"FORWARDED_ALLOW_IPS": "*"}).forwarded_allow_ips == ("*",)
    assert refusal(FORWARDED_ALLOW_IPS="10.0.0.1/8").startswith("FORWARDED_ALLOW_IPS must have addresses")
    assert Settings.from_env({"SOCKET_CHANNEL": "shop"}).channel == "shop"


@pytest.mark.parametrize(
    ("files", "most"),
    [
        ({}, None),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
    ],
)
def test_cores_are_those_of_the_mask_and_the_quota(tmp_path: Path, files: dict[str, str], most: int | None) -> None:
    import os

    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    allowed = len(os.sched_getaffinity(0))
    assert cores(tmp_path) == (allowed if most is None else min(allowed, most))


# Names of nobody


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("SOCKET_AUTH_REQUIERD", "SOCKET_AUTH_REQUIRED"),
        ("SOKCET_AUTH_REQUIRED", "SOCKET_AUTH_REQUIRED"),
        ("MINTFLOW_SOCKET_AUTH_REQUIERD", "MINTFLOW_SOCKET_AUTH_REQUIRED"),
        ("MITNFLOW_SOCKET_AUTH_REQUIRED", "SOCKET_AUTH_REQUIRED"),
        ("SOCKET_CORS_ORIGINS", "SOCKET_CORS_ORIGIN"),
        ("SOCKET_CORS", "SOCKET_CORS_ORIGIN"),
        ("JWT_SECRT", "JWT_SECRET"),
        ("JWT_AUDIANCE", "JWT_AUDIENCE"),
        ("JWT_ISS", "JWT_ISSUER"),
        ("RECOVERY_WINDOWS", "RECOVERY_WINDOW"),
        ("REDIS_ULR", "REDIS_URL"),
        ("REDIS_PASWORD", "REDIS_PASSWORD"),
        ("TICKET_SECERT", "TICKET_SECRET"),
        ("MINTFLOW_REDIS_URI", "MINTFLOW_REDIS_URL"),
    ],
)
def test_a_slip_in_a_name_stops_the_start_with_the_nearest(name: str, close: str) -> None:
    assert refusal(None, **{name: "true"}) == f"{name} is no setting; the nearest is {close}."
    Settings.load(None, {name: ""})


def test_a_slip_in_app_config_stops_the_start() -> None:
    sentence = refusal({"MINTFLOW_SOCKET_AUTH_REQUIERD": False})
    assert sentence.startswith(
        "MINTFLOW_SOCKET_AUTH_REQUIERD in app.config is no setting; the nearest is MINTFLOW_SOCKET"
    )


def test_names_of_others_do_not_stop_it() -> None:
    others = """API_KEY API_URL REDIS_URI REDIS_URLS REDIS_HOSTS REDIS_USERNAME REDIS_TLS_URL REDIS_SERVICE_HOST
        REDIS_SERVICE_PORT REDIS_SERVICE_PORT_TCP_REDIS REDIS_PORT_6379_TCP REDIS_PORT_6379_TCP_ADDR REDIS_MAX REDIS_SSL
        MINTFLOW_SERVICE_HOST MINTFLOW_SERVICE_PORT MINTFLOW_PORT_3000_TCP MINTFLOW_PORT_3000_TCP_PROTO
        MINTFLOW_REALTIME_SERVICE_HOST SOCKET_SERVICE_HOST OPENAI_ORG_ID OPENAI_LOG OPENAI_API_BASE OPENAI_MODEL
        JWT_SECRET_KEY JWT_ALGORITHM JWT_ACCESS_TOKEN_EXPIRES JWT_COOKIE_SECURE JWT_TOKEN_LOCATION JWT_PRIVATE_KEY
        LOGLEVEL LOG_LEVELS LOG_FORMAT LOGS_DIR DATADIR DATA_DIRS XDG_DATA_DIRS HOSTNAME HOST_IP HOSTTYPE POST PORTS
        WORKSPACE WORKSPACE_TMP WEB_CONCURRENCY_MAX RUNS_ON AI_MODEL TICKET_URL COLUMNS PATH HOME PYTHONPATH
        GUNICORN_CMD_ARGS FLASK_APP CELERY_BROKER_URL DATABASE_URL MINTFLOWER""".split()
    Settings.load(None, {name: "1" for name in others})
    injected = {"MINTFLOW_PORT": "tcp://10.0.0.1:3000", "SOCKET_PORT": "tcp://10.0.0.2:80"}
    assert Settings.load(None, {**injected, "MINTFLOW_REALTIME_PORT": "tcp://10.0.0.1:3000"}).port == 3000


def test_slips_and_the_nearest_name() -> None:
    for text in ("abcd", "bacde", "abcdef", "abxde", "bcde", "abced"):
        assert one_slip(text, "abcde")
    for text in ("abcde", "abc", "edcba", "abxxe", "abcdefg", "cbade"):
        assert not one_slip(text, "abcde")
    assert nearest("WHAT") in {setting.name for setting in SETTINGS}


# What a publisher reads


def test_a_publisher_reads_only_its_own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = {"JWT_SECRET": "short", "SOCKET_AUTH_REQUIERD": "true", "MINTFLOW_PORT": "x", "JWT_ALGORITHMS": "none"}
    env = {**bad, "SOCKET_X": "1", "AI_BACKEND": "none", "MINTFLOW_SOCKET_X": "1", "REDIS_URL": "redis://r/2"}
    assert PublisherSettings.from_env(env).redis_prefix == "mf2"
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    Emitter().close()
    Emitter("redis://r/3", config={"MINTFLOW_LOGS_MAX": 5, "MINTFLOW_JWT_SECRET": 5}).close()
    for name in ("LOGS_MAX", "MINTFLOW_RECOVERY_WINDOW"):
        with pytest.raises(SettingError, match=f"{name} must be a whole number"):
            PublisherSettings.from_env({name: "x"})
    with pytest.raises(SettingError, match="the nearest is MINTFLOW_REDIS_URL"):
        PublisherSettings.from_env({"MINTFLOW_REDIS_ULR": "redis://r"})
    with pytest.raises(SettingError, match="MINTFLOW_LOGS_MAX in app.config must be a whole number"):
        Emitter(config={"MINTFLOW_LOGS_MAX": "x"})


def test_a_publisher_reads_the_names_that_are_called_its_own() -> None:
    read: set[str] = set()

    class Spy(dict[str, str]):
        def get(self, name: str, default: str = "") -> str:  # type: ignore[override]
            read.add(name.removeprefix("MINTFLOW_"))
            return default

    PublisherSettings.from_env(Spy())
    assert read == NAMES


@pytest.mark.parametrize("url", ["http://:hunter2@r", "redis://:hunter2@r/x", "redis://[::1", "nonsense"])
def test_a_bad_url_of_an_emitter_is_said_without_it(url: str) -> None:
    with pytest.raises(SettingError, match="^The URL ") as caught:
        Emitter(url)
    assert "hunter2" not in str(caught.value)


# What is shown


def test_where_each_setting_comes_from() -> None:
    config, env = {"MINTFLOW_PORT": 1}, {"MINTFLOW_RUNS_TTL": "60", "LOGS_MAX": "5", "PORT": "2"}
    found = origins(config, env)
    assert list(found) == [setting.name for setting in SETTINGS]
    told = {name: found[name] for name in ("PORT", "RUNS_TTL", "LOGS_MAX", "LOGS_TTL")}
    assert told == {
        "PORT": "app.config",
        "RUNS_TTL": "MINTFLOW_RUNS_TTL",
        "LOGS_MAX": "LOGS_MAX",
        "LOGS_TTL": "default",
    }


def test_secrets_are_not_shown() -> None:
    env = {
        "JWT_SECRET": SECRET,
        "JWT_PUBLIC_KEY": SECRET,
        "TICKET_SECRET": SECRET,
        "REDIS_PASSWORD": SECRET,
        "OPENAI_API_KEY": SECRET,
        "API_KEYS": f"{SECRET}:acme",
        "REDIS_URL": f"redis+sentinel://ann:{SECRET}@a:1,b:2/0/m?sentinel_password={SECRET}",
    }
    rows = {row.name: row.shown for row in overview({}, env)}
    assert not any(SECRET in text for text in rows.values())
    assert rows["REDIS_URL"] == "redis+sentinel://***@a:1,b:2/0/m?sentinel_password=***"
    assert rows["JWT_SECRET"] == rows["API_KEYS"] == "(hidden)"
    assert shown("API_KEYS", {SECRET: "acme"}) == "(hidden)"
    assert (rows["PORT"], rows["TICKET_SECRET"], rows["HOST"]) == ("3000", "(hidden)", "")
    assert shown("SOCKET_TRANSPORTS", ["a", "b"]) == "a,b" and shown("SOCKET_AUTH_REQUIRED", True) == "true"
