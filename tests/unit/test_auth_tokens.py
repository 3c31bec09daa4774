"""Which JWTs are accepted, and what they say."""

import base64
import datetime
import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mintflow_realtime.auth.claims import Claims
from mintflow_realtime.auth.tokens import TokenVerifier
from mintflow_realtime.protocol.errors import AuthenticationError, TenantDenied, TokenExpired

NOW = 1_900_000_000.0
SECRET = "0123456789abcdef0123456789abcdef-test"
DAY = 86_400
GOOD: dict[str, Any] = {"userId": "u1", "tenants": ["acme"], "exp": NOW + 60, "iat": NOW - 5}
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()


def pem(key: Any) -> str:
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def private_pem(key: Any) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def verifier(
    *algorithms: str,
    secret: str | None = SECRET,
    public_key: str | None = None,
    issuer: str | None = None,
    audience: str | None = None,
    clock: Callable[[], float] = lambda: NOW,
) -> TokenVerifier:
    return TokenVerifier(algorithms or ("HS256",), secret, public_key, issuer, audience, 30 * DAY, 30.0, clock)


def token(claims: dict[str, Any], key: Any = SECRET, algorithm: str = "HS256") -> str:
    return jwt.encode(claims, key, algorithm=algorithm)


def signed(payload: bytes, header: bytes = b'{"alg":"HS256"}') -> str:
    """Sign what PyJWT's own encoder would not write."""
    parts = [base64.urlsafe_b64encode(part).rstrip(b"=") for part in (header, payload)]
    text = b".".join(parts)
    signature = jwt.get_algorithm_by_name("HS256").sign(text, SECRET.encode())
    return (text + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


def test_claims_of_a_full_token() -> None:
    claims = {**GOOD, "tenants": ["acme", "beta"], "tenantId": "beta", "name": "Ann", "scope": "logs:read", "jti": "j"}
    assert verifier().verify(token(claims)) == Claims(
        "u1", ("acme", "beta"), "beta", "Ann", "logs:read", NOW + 60, NOW - 5, "j"
    )


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        ({"userId": None, "sub": "u2"}, "user_id", "u2"),
        ({"sub": "u2"}, "user_id", "u1"),
        ({"tenants": ["acme", "acme"]}, "tenants", ("acme",)),
        ({"tenants": None, "tenantId": "solo"}, "tenants", ("solo",)),
        ({"tenants": None, "tenantId": "solo"}, "tenant_id", "solo"),
        ({"tenants": None}, "tenants", ()),
        ({"tenants": []}, "tenants", ()),
        ({}, "tenant_id", None),
        ({}, "name", None),
        ({}, "scope", None),
        ({"scope": ""}, "scope", ""),
        ({}, "jti", None),
        ({"iat": None}, "iat", None),
        ({"iat": NOW + 29}, "iat", NOW + 29),
        ({"nbf": NOW + 29}, "user_id", "u1"),
        ({"exp": NOW + 0.5}, "exp", NOW + 0.5),
        ({"aud": "anyone", "iss": "anyone"}, "user_id", "u1"),
    ],
)
def test_claims_read(changes: dict[str, Any], field: str, value: object) -> None:
    assert getattr(verifier().verify(token({**GOOD, **changes})), field) == value


@pytest.mark.parametrize("exp", [NOW, NOW - 1, NOW - 29.9])
def test_token_within_the_leeway_is_not_closed_at_once(exp: float) -> None:
    assert verifier().verify(token({**GOOD, "exp": exp})).exp == exp + 30 > NOW


@pytest.mark.parametrize("exp", [NOW - 30, NOW - 31, 0, -1])
def test_expired(exp: float) -> None:
    with pytest.raises(TokenExpired):
        verifier().verify(token({**GOOD, "exp": exp, "iat": None}))


@pytest.mark.parametrize(
    "changes",
    [
        {"userId": None},
        {"userId": ""},
        {"userId": "u1\n"},
        {"userId": "\ud800"},
        {"userId": "x" * 256},
        {"userId": True},
        {"userId": 10**300},
        {"userId": [], "sub": "u2"},
        {"userId": None, "sub": [7]},
        {"tenants": "acme"},
        {"tenants": {"acme": True}},
        {"tenants": ["acme", 7]},
        {"tenants": ["acme", "a{b}"]},
        {"tenants": ["-"]},
        {"tenantId": 7},
        {"tenantId": ""},
        {"tenantId": "a b"},
        {"name": 7},
        {"name": "\ud800"},
        {"scope": ["logs:read"]},
        {"scope": None},
        {"jti": [7]},
        {"jti": False},
        {"jti": "x" * 257},
        {"exp": None},
        {"exp": "1900000060"},
        {"exp": True},
        {"exp": 10**400},
        {"exp": float("inf")},
        {"exp": float("nan")},
        {"exp": NOW + 30 * DAY + 31, "iat": None},
        {"exp": NOW + 30 * DAY, "iat": NOW - 1},
        {"iat": NOW + 31},
        {"iat": "yesterday"},
        {"nbf": NOW + 31},
        {"nbf": []},
    ],
    ids=repr,
)
def test_claims_refused(changes: dict[str, Any]) -> None:
    shown = token({**GOOD, **changes})
    with pytest.raises(AuthenticationError) as refused:
        verifier().verify(shown)
    assert refused.value.code == "authentication_failed"


@pytest.mark.parametrize("claim", ["userId", "tenants", "tenantId", "name", "scope", "jti", "exp", "iat", "nbf"])
@pytest.mark.parametrize("value", [{"a": "SECRET"}, ["SECRET\n"]])
def test_whatever_is_refused_is_named_and_never_shown(claim: str, value: Any) -> None:
    with pytest.raises(AuthenticationError, match=rf"\b{claim}\b") as refused:
        verifier().verify(token({**GOOD, claim: value}))
    assert "SECRET" not in str(refused.value)


def test_issuer_and_audience_are_named() -> None:
    theirs = verifier(issuer="https://us", audience="api")
    for claim, changes in (
        ("iss", {"aud": "api", "iss": "https://them"}),
        ("aud", {"iss": "https://us", "aud": ["x"]}),
    ):
        with pytest.raises(AuthenticationError, match=rf"\b{claim} claim"):
            theirs.verify(token({**GOOD, **changes}))


@pytest.mark.parametrize(
    "user",
    [
        "auth0|5f7c8ec7",
        "google-oauth2|107",
        "f:5a0b-4c:ann",
        "ann+test@example.com",
        "urn:a/b=c",
        "Zoë",
        "x" * 255,
        "-",
    ],
)
def test_a_subject_is_any_text(user: str) -> None:
    assert verifier().verify(token({**GOOD, "userId": None, "sub": user})).user_id == user


@pytest.mark.parametrize(
    ("number", "text"), [(7, "7"), (0, "0"), (-1, "-1"), (10**30, "1" + "0" * 30), (1.5, "1.5"), (1e3, "1000")]
)
def test_numbers_are_their_text(number: Any, text: str) -> None:
    claims = verifier().verify(token({**GOOD, "userId": None, "sub": number, "jti": number}))
    assert (claims.user_id, claims.jti) == (text, text)
    assert verifier().verify(token({**GOOD, "userId": number})).user_id == text


def certificate(key: Any) -> str:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "issuer")])
    begin = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=36500))
    )
    signed = built.sign(key, None if key is ED_KEY else hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


@pytest.mark.parametrize(
    ("algorithm", "key"), [("RS256", RSA_KEY), ("PS256", RSA_KEY), ("ES256", EC_KEY), ("EdDSA", ED_KEY)]
)
def test_a_certificates_key_is_taken(algorithm: str, key: Any) -> None:
    ours = verifier(algorithm, secret=None, public_key=certificate(key) + certificate(RSA_KEY))
    assert ours.verify(token(GOOD, key, algorithm)).user_id == "u1"


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
@pytest.mark.parametrize("kind", ["CERTIFICATE", "PUBLIC KEY"])
@pytest.mark.parametrize("body", ["", "AAAA", "not base64!", pem(RSA_KEY).splitlines()[1]], ids=range(4))
def test_a_broken_key_is_one_sentence(algorithm: str, kind: str, body: str) -> None:
    with pytest.raises(ValueError, match=r"\AThe JWT public key [^\n]*\Z"):
        verifier(algorithm, secret=None, public_key=f"-----BEGIN {kind}-----\n{body}\n-----END {kind}-----\n")


def test_exp_is_required_which_stock_pyjwt_does_not() -> None:
    endless = token({key: value for key, value in GOOD.items() if key != "exp"})
    stock = jwt.decode(endless, SECRET, algorithms=["HS256"], options={"verify_iat": False})
    assert stock["userId"] == "u1"
    with pytest.raises(AuthenticationError, match="exp"):
        verifier().verify(endless)


def test_issuer_and_audience_are_checked_where_set() -> None:
    strict = verifier(issuer="https://id", audience="realtime")
    right = {**GOOD, "iss": "https://id", "aud": ["other", "realtime"]}
    assert strict.verify(token(right)).user_id == "u1"
    for changes in ({"iss": "https://evil"}, {"aud": "other"}, {"aud": 7}, {"iss": 7}, {"aud": []}):
        # PyJWT's own encoder refuses to write an issuer that is not text.
        shown = signed(json.dumps({**right, **changes}).encode())
        with pytest.raises(AuthenticationError):
            strict.verify(shown)
    for missing in ("iss", "aud"):
        with pytest.raises(AuthenticationError, match=missing):
            strict.verify(token({key: value for key, value in right.items() if key != missing}))


def test_tenant_id_outside_of_its_tenants() -> None:
    with pytest.raises(TenantDenied):
        verifier().verify(token({**GOOD, "tenantId": "beta"}))


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [("RS256", RSA_KEY), ("PS256", RSA_KEY), ("ES256", EC_KEY), ("EdDSA", ED_KEY)],
    ids=["RS256", "PS256", "ES256", "EdDSA"],
)
def test_public_key_algorithms(algorithm: str, key: Any) -> None:
    ours = verifier(algorithm, secret=None, public_key=pem(key))
    assert ours.verify(token(GOOD, key, algorithm)).user_id == "u1"
    with pytest.raises(AuthenticationError):
        ours.verify(token(GOOD))


def test_each_family_has_its_own_key() -> None:
    both = verifier("HS256", "RS256", public_key=pem(RSA_KEY))
    assert both.verify(token(GOOD)).user_id == "u1"
    assert both.verify(token(GOOD, RSA_KEY, "RS256")).user_id == "u1"
    # The confusion: HS256 with the text of the public key as its secret, which PyJWT's encoder refuses to sign.
    head = signed(json.dumps(GOOD).encode()).rpartition(".")[0]
    forged = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(
        head.encode(), pem(RSA_KEY).encode()
    )
    for only in (both, verifier("RS256", secret=None, public_key=pem(RSA_KEY))):
        with pytest.raises(AuthenticationError):
            only.verify(f"{head}.{base64.urlsafe_b64encode(forged).rstrip(b'=').decode()}")


@pytest.mark.parametrize(
    "header",
    [
        b'{"alg":"none"}',
        b'{"alg":"None"}',
        b'{"alg":"HS384"}',
        b'{"alg":"RS256"}',
        b'{"alg":""}',
        b'{"alg":null}',
        b'{"alg":["HS256"]}',
        b'{"alg":{"HS256":1}}',
        b"{}",
        b"[]",
        b"null",
        b'{"alg":"HS256","crit":["b64"],"b64":false}',
        b'{"alg":"HS256","crit":["made-up"]}',
        b'{"alg":"HS256","kid":7}',
    ],
)
def test_headers_refused(header: bytes) -> None:
    with pytest.raises(AuthenticationError):
        verifier().verify(signed(json.dumps(GOOD).encode(), header))


def test_none_without_a_signature_is_refused() -> None:
    with pytest.raises(AuthenticationError):
        verifier().verify(jwt.encode(GOOD, None, algorithm="none"))


def test_another_secret_and_a_changed_payload_are_refused() -> None:
    with pytest.raises(AuthenticationError):
        verifier().verify(token(GOOD, "another-secret-of-at-least-32-bytes"))
    head, _, signature = token(GOOD).split(".")
    _, payload, _ = token({**GOOD, "userId": "root"}).split(".")
    with pytest.raises(AuthenticationError):
        verifier().verify(f"{head}.{payload}.{signature}")


@pytest.mark.parametrize("payload", [b"[]", b"null", b"7", b"{", b"\xff", b'{"exp":1e400}', b"[" * 5000])
def test_payloads_that_are_no_object(payload: bytes) -> None:
    with pytest.raises(AuthenticationError):
        verifier().verify(signed(payload))


def test_longest_token() -> None:
    fits = token({**GOOD, "pad": "x" * 5000})
    assert len(fits) < 8192 and verifier().verify(fits).user_id == "u1"
    with pytest.raises(AuthenticationError, match="8192"):
        verifier().verify(token({**GOOD, "pad": "x" * 8192}))


@pytest.mark.parametrize("not_text", [None, 7, b"bytes", ["token"]])
def test_tokens_of_another_type(not_text: Any) -> None:
    with pytest.raises(AuthenticationError):
        verifier().verify(not_text)


def test_without_a_key_every_token_is_refused() -> None:
    for empty in (None, ""):
        with pytest.raises(AuthenticationError, match="no key"):
            verifier(secret=empty).verify(token(GOOD))


@pytest.mark.parametrize(
    ("algorithms", "secret", "public_key", "named"),
    [
        (["none"], SECRET, None, "none"),
        (["HS257"], SECRET, None, "HS257"),
        (["none"], None, None, "none"),
        (["RS256"], SECRET, None, "RS256 needs a public key"),
        (["HS256"], None, pem(RSA_KEY), "HS256 needs a secret"),
        (["HS256"], pem(RSA_KEY), None, "HS256"),
        (["ES256"], None, pem(RSA_KEY), "ES256"),
        (["ES384"], None, pem(EC_KEY), "ES384"),
        (["RS256"], None, pem(EC_KEY), "RS256"),
        (["EdDSA"], None, pem(EC_KEY), "EdDSA"),
        (["RS256"], None, "not a key", "RS256"),
        (["RS256"], None, private_pem(RSA_KEY), "private"),
    ],
    # Another key in each process that collects them.
    ids=lambda value: repr(value)[:20],
)
def test_keys_that_do_not_fit_stop_the_start(
    algorithms: list[str], secret: str | None, public_key: str | None, named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        verifier(*algorithms, secret=secret, public_key=public_key)


def test_the_clock_is_the_given_one() -> None:
    now = [NOW]
    ours = verifier(clock=lambda: now[0])
    shown = token(GOOD)
    assert ours.verify(shown).exp == NOW + 60
    now[0] = NOW + 90
    with pytest.raises(TokenExpired):
        ours.verify(shown)


@settings(deadline=None)
@given(st.text() | st.from_regex(r"[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*", fullmatch=True))
@example("")
@example("..")
@example("\ud800.a.b")
@example("é.é.é")
def test_garbage_is_refused_and_nothing_else(garbage: str) -> None:
    with pytest.raises(AuthenticationError):
        verifier("HS256", "RS256", public_key=pem(RSA_KEY)).verify(garbage)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
known = st.sampled_from(["userId", "sub", "tenants", "tenantId", "name", "scope", "exp", "iat", "nbf", "jti", "aud"])


@settings(deadline=None)
@given(st.dictionaries(known, json_values))
def test_signed_claims_of_any_type_are_read_or_refused(changes: dict[str, Any]) -> None:
    shown = signed(json.dumps({**GOOD, **changes}).encode())
    try:
        claims = verifier().verify(shown)
    except AuthenticationError:
        return
    assert claims.exp > NOW
    assert isinstance(claims.tenants, tuple)
    "".join(filter(None, [claims.user_id, claims.name, claims.scope, claims.jti])).encode()


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["alg", "typ", "kid", "crit", "b64"]), json_values))
@example({"alg": "HS256", "typ": None})
def test_signed_headers_of_any_type_are_refused_or_read(header: dict[str, Any]) -> None:
    shown = signed(json.dumps(GOOD).encode(), json.dumps(header).encode())
    try:
        assert verifier().verify(shown).user_id == "u1"
    except AuthenticationError:
        return
    assert header["alg"] == "HS256"
