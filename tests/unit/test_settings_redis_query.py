"""What may stand behind the `?` of REDIS_URL; all else stops the start with a sentence that names it."""

from pathlib import Path

import pytest

from mintflow_realtime.settings.settings import Settings
from mintflow_realtime.settings.sources import SettingError


@pytest.mark.parametrize(
    "url",
    [
        "redis://h:1/3",
        "redis://h:1?db=5&client_name=a",
        "redis://h:1/0?username=u&password=p%40w",
        "unix:///run/redis.sock?db=2",
        "rediss://h:1/0?ssl_cert_reqs=none&ssl_check_hostname=false",
        "redis+sentinel://h:1/0/s?sentinel_username=u&sentinel_password=p",
        "rediss+sentinel://h:1,i:2/0/s?ssl_cert_reqs=none",
        "rediss+cluster://h:1,i:2?ssl_cert_reqs=none",
    ],
)
def test_what_is_understood(url: str) -> None:
    assert Settings.from_env({"REDIS_URL": url}).redis_url == url


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("redis://h:1?foo=1", "'foo'"),
        ("redis://h:1?decode_responses=true", "'decode_responses'"),
        ("redis://h:1?socket_timeout=60", "'socket_timeout'"),
        ("redis://h:1?protocol=3", "'protocol'"),
        ("redis://h:1?retry_on_timeout=1", "'retry_on_timeout'"),
        ("redis://h:1?max_connections=1", "'max_connections'"),
        ("redis://h:1?foo", "'foo'"),
        ("redis://h:1?ssl=true", "rediss://"),
        ("redis://h:1?ssl_cert_reqs=none", "rediss://"),
        ("redis+sentinel://h:1/0/s?ssl=true", "rediss+sentinel://"),
        ("redis+cluster://h:1?ssl_cert_reqs=none", "rediss+cluster://"),
        ("redis+sentinel://h:1/0/s?socket_timeout=1", "'socket_timeout'"),
        ("rediss://h:1?ssl_cert_reqs=perhaps", "ssl_cert_reqs"),
        ("rediss://h:1?ssl_ca_certs=/nowhere/ca.pem", "/nowhere/ca.pem"),
        ("rediss://h:1?ssl_keyfile=/nowhere/key.pem", "ssl_keyfile"),
        ("redis://h:1?db=1&db=2", "db once"),
        ("unix:///s?host=x", "'host'"),
    ],
)
def test_what_is_not_understood(url: str, named: str) -> None:
    with pytest.raises(SettingError) as refused:
        Settings.from_env({"REDIS_URL": url})
    text = str(refused.value)
    assert named in text and text.startswith("REDIS_URL") and "\n" not in text


def test_no_value_of_it_is_shown(tmp_path: Path) -> None:
    with pytest.raises(SettingError) as refused:
        Settings.from_env({"REDIS_URL": "redis://u:hunter2@h:1?pass=hunter2"})
    assert "hunter2" not in str(refused.value)
