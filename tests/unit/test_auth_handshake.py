"""Where the token and the tenant of a connection are taken from."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mintflow_realtime.auth.handshake import bearer_from, choose_tenant, tenant_wanted, token_from
from mintflow_realtime.protocol.errors import AuthenticationError, TenantDenied, TenantRequired

ALL_SOURCES = {"HTTP_AUTHORIZATION": "Bearer header", "QUERY_STRING": "EIO=4&token=query&tenantId=by-query"}


@pytest.mark.parametrize(
    ("auth", "environ", "token"),
    [
        ({"token": "payload"}, ALL_SOURCES, "payload"),
        ({"token": ""}, ALL_SOURCES, "header"),
        ({"token": None}, ALL_SOURCES, "header"),
        ({}, ALL_SOURCES, "header"),
        (None, ALL_SOURCES, "header"),
        (None, {**ALL_SOURCES, "HTTP_AUTHORIZATION": ""}, "query"),
        (None, {**ALL_SOURCES, "HTTP_AUTHORIZATION": "Bearer"}, "query"),
        (None, {**ALL_SOURCES, "HTTP_AUTHORIZATION": "Bearer   "}, "query"),
        (None, {**ALL_SOURCES, "HTTP_AUTHORIZATION": "Basic dXNlcjpwYXNz"}, "query"),
        (None, {"HTTP_AUTHORIZATION": "bearer  header "}, "header"),
        (None, {"QUERY_STRING": "token=a%2Bb%20c"}, "a+b c"),
        (None, {"QUERY_STRING": "token=first&token=second"}, "first"),
        (None, {"QUERY_STRING": "token="}, None),
        (None, {"QUERY_STRING": ""}, None),
        (None, {}, None),
        ({"pid": "p", "offset": 7, "mine": {"token": "no"}}, {}, None),
        (None, {"HTTP_X_TOKEN": "no", "HTTP_COOKIE": "token=no", "token": "no"}, None),
    ],
)
def test_token_comes_from_payload_then_header_then_query(
    auth: object, environ: dict[str, Any], token: str | None
) -> None:
    assert token_from(auth, environ) == token


@pytest.mark.parametrize(
    ("auth", "environ", "tenant"),
    [
        ({"tenantId": "by-payload"}, ALL_SOURCES, "by-payload"),
        ({"tenantId": ""}, ALL_SOURCES, "by-query"),
        ({"tenantId": None}, ALL_SOURCES, "by-query"),
        (None, ALL_SOURCES, "by-query"),
        ({"tenant": "no"}, {"HTTP_X_TENANT_ID": "no"}, None),
    ],
)
def test_tenant_comes_from_payload_then_query(auth: object, environ: dict[str, Any], tenant: str | None) -> None:
    assert tenant_wanted(auth, environ) == tenant


@pytest.mark.parametrize("auth", ["text", 7, 0, False, [], ["token"], {"token": 7}, {"token": False}, {"token": {}}])
def test_token_of_another_type_is_refused(auth: object) -> None:
    with pytest.raises(AuthenticationError) as refused:
        token_from(auth, ALL_SOURCES)
    assert refused.value.code == "authentication_failed"


@pytest.mark.parametrize("auth", ["text", [], {"tenantId": 7}, {"tenantId": ["acme"]}])
def test_tenant_of_another_type_is_refused(auth: object) -> None:
    with pytest.raises(AuthenticationError) as refused:
        tenant_wanted(auth, ALL_SOURCES)
    assert refused.value.code == "authentication_failed"


def test_query_of_too_many_fields_is_refused() -> None:
    with pytest.raises(AuthenticationError):
        token_from(None, {"QUERY_STRING": "&".join(["a=1"] * 101)})
    assert token_from(None, {"QUERY_STRING": "&".join(["a=1"] * 99 + ["token=last"])}) == "last"


@pytest.mark.parametrize(
    ("header", "token"),
    [(None, None), ("", None), ("Bearer x", "x"), ("BEARER x", "x"), ("Bearerx", None), ("Digest x", None)],
)
def test_bearer(header: str | None, token: str | None) -> None:
    assert bearer_from(header) == token


@pytest.mark.parametrize(
    ("tenants", "default", "wanted", "tenant"),
    [
        (("a", "b"), "a", "b", "b"),
        (("a", "b"), "b", None, "b"),
        (("a", "b"), "b", "", "b"),
        (("a",), None, None, "a"),
        (("a",), None, "a", "a"),
    ],
)
def test_tenant_is_the_wanted_then_the_default_then_the_only_one(
    tenants: tuple[str, ...], default: str | None, wanted: str | None, tenant: str
) -> None:
    assert choose_tenant(tenants, default, wanted) == tenant


@pytest.mark.parametrize(
    ("tenants", "default", "wanted", "error"),
    [
        (("a", "b"), None, None, TenantRequired),
        ((), None, None, TenantRequired),
        (("a", "b"), "a", "c", TenantDenied),
        (("a",), None, "A", TenantDenied),
        ((), None, "a", TenantDenied),
        (("abc",), None, "ab", TenantDenied),
    ],
)
def test_tenant_that_can_not_be_settled(
    tenants: tuple[str, ...], default: str | None, wanted: str | None, error: type[AuthenticationError]
) -> None:
    with pytest.raises(error):
        choose_tenant(tenants, default, wanted)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["token", "tenantId"]) | st.text(), inner),
    max_leaves=8,
)


@settings(deadline=None)
@given(json_values, st.text(), st.text())
def test_any_payload_gives_text_or_a_refusal(auth: object, header: str, query: str) -> None:
    environ = {"HTTP_AUTHORIZATION": header, "QUERY_STRING": query}
    for taken in (token_from, tenant_wanted):
        try:
            value = taken(auth, environ)
        except AuthenticationError:
            continue
        assert value is None or (isinstance(value, str) and value)
