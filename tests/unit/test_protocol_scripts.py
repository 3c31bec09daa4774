"""Keys carry the tenant as cluster hash tag, and no two of them meet; a script is known by its SHA1."""

import hashlib
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

import mintflow_realtime.fanout.publish.publisher
from mintflow_realtime.protocol.ids import TENANT_PATTERN, encode_id, is_tenant
from mintflow_realtime.protocol.scripts import Keys, Script

TENANTS = st.from_regex(TENANT_PATTERN)
IDS = st.text(alphabet="ab:/{}~é", min_size=1).map(encode_id)


def test_a_key_and_one_that_belongs_to_no_tenant() -> None:
    keys = Keys("mf0")
    assert keys.of("acme", "log", "/flows") == "mf0:{acme}:log:/flows"
    assert keys.shared("canary", "n1") == "mf0:{-}:canary:n1"
    assert not is_tenant("-")


@given(TENANTS, IDS, TENANTS, IDS)
def test_tenants_never_share_a_key(tenant: str, part: str, other: str, other_part: str) -> None:
    keys = Keys("p")
    same = (tenant, part) == (other, other_part)
    assert (keys.of(tenant, "x", part) == keys.of(other, "x", other_part)) is same
    assert keys.of(tenant, "x", part).split("{")[1].split("}")[0] == tenant


def test_a_script_is_known_by_the_sha_of_its_text(tmp_path: Path) -> None:
    (tmp_path / "s.lua").write_text("return 1")
    script = Script.beside(str(tmp_path / "module.py"), "s.lua")
    assert script.text == "return 1" and script.sha == hashlib.sha1(b"return 1").hexdigest()
    assert Script("return 1") == script != Script("return 2")


def test_the_publishing_scripts_place_for_a_change_is_filled_once() -> None:
    script = mintflow_realtime.fanout.publish.publisher._script("local function change() return {} end")
    assert "-- CHANGE\n" not in script.text and script.text.count("local function change") == 1
