"""JWTs: which are accepted, and what they say. Whatever is shown, the answer is claims or an `AuthenticationError`."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jwt

from mintflow_realtime.auth.claims import Claims
from mintflow_realtime.protocol.errors import AuthenticationError, TenantDenied, TokenExpired
from mintflow_realtime.protocol.ids import is_id, is_tenant

# RFC 7519 sets no limit; nginx takes 8 KB of one header line by default, so no longer token could arrive there.
MAX_TOKEN_BYTES = 8192
MAX_JTI_LENGTH = 256
LEEWAY_SECONDS = 30.0
# No text of a larger number is an id.
_MOST = 10**255
_SYMMETRIC = ("HS256", "HS384", "HS512")
_ASYMMETRIC = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "ES256K", "EdDSA")


class TokenVerifier:
    """Verifies JWTs against a fixed list of algorithms, each bound to the key of its own family.

    With neither key every token is refused. `leeway` and `max_lifetime` are seconds.
    """

    def __init__(
        self,
        algorithms: Sequence[str],
        secret: str | None,
        public_key: str | None,
        issuer: str | None,
        audience: str | None,
        max_lifetime: float,
        leeway: float = LEEWAY_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Prepare the keys. Raises ValueError for an algorithm that is unknown, or that no given key fits."""
        self.max_lifetime = max_lifetime
        self.leeway = leeway
        self._issuer = issuer
        self._audience = audience
        self._clock = clock
        self._keys = _keys_by_algorithm(algorithms, secret or None, public_key or None)

    def verify(self, token: str) -> Claims:
        """Return the claims of `token`. Raises `TokenExpired`, `TenantDenied` or another `AuthenticationError`."""
        payload = self._payload(token)
        now = self._clock()
        exp = _seconds(payload, "exp")
        iat = _seconds(payload, "iat")
        not_before = _seconds(payload, "nbf")
        if exp is None:
            raise AuthenticationError("The token has no exp claim")
        if exp + self.leeway <= now:
            raise TokenExpired("The token has expired: its exp claim is in the past")
        for claim, begin in (("iat", iat), ("nbf", not_before)):
            if begin is not None and begin > now + self.leeway:
                raise AuthenticationError(
                    f"The token is not valid yet: its {claim} claim is in the future, by this server's clock"
                )
        # Counted from iat too: a token that is too long today would else be let in on a later day, when the
        # revocation that should have stopped it has ended.
        if exp > now + self.max_lifetime + self.leeway or (iat is not None and exp - iat > self.max_lifetime):
            raise AuthenticationError("The token lives longer than this server accepts, by its exp claim")
        tenants, tenant_id = _tenants(payload)
        return Claims(
            user_id=_user_id(payload),
            tenants=tenants,
            tenant_id=tenant_id,
            name=_text(payload, "name"),
            scope=_scope(payload),
            # A token that is let in within the leeway must not be closed in the same moment.
            exp=exp if exp > now else exp + self.leeway,
            iat=iat,
            jti=_text(payload, "jti", MAX_JTI_LENGTH, numbers=True),
        )

    def _payload(self, token: str) -> dict[str, Any]:
        if not self._keys:
            raise AuthenticationError("This server has no key to check tokens with")
        if not isinstance(token, str) or not token.isascii() or len(token) > MAX_TOKEN_BYTES:
            raise AuthenticationError(f"A token is at most {MAX_TOKEN_BYTES} ASCII characters")
        try:
            algorithm = jwt.get_unverified_header(token).get("alg")
            # The header only picks from a table that is fixed at the start, so that a public key is never used as
            # an HMAC secret and "none" has no entry (RFC 8725, sections 2.1 and 3.1).
            key = self._keys.get(algorithm) if isinstance(algorithm, str) else None
            if key is None or not isinstance(algorithm, str):
                raise AuthenticationError("The token's algorithm is not accepted")
            # Times are checked by the caller, with this server's one clock, and that exp is there at all, which
            # PyJWT doesn't ask for. It would refuse a token with an audience where none is configured.
            return jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                issuer=self._issuer,
                audience=self._audience,
                options={
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                    # PyJWT refuses numbers there, which some issuers send.
                    "verify_sub": False,
                    "verify_jti": False,
                    "verify_iss": self._issuer is not None,
                    "verify_aud": self._audience is not None,
                },
            )
        except jwt.MissingRequiredClaimError as error:
            raise AuthenticationError(f"The token has no {error.claim} claim") from None
        except jwt.InvalidIssuerError:
            raise AuthenticationError("The token is of another issuer: its iss claim is not the one expected") from None
        except jwt.InvalidAudienceError:
            raise AuthenticationError(
                "The token is for another audience: its aud claim lacks the one expected"
            ) from None
        except jwt.PyJWTError:
            raise AuthenticationError("The token is malformed or its signature is wrong") from None


def _keys_by_algorithm(algorithms: Sequence[str], secret: str | None, public_key: str | None) -> Mapping[str, Any]:
    for algorithm in algorithms:
        if algorithm not in _SYMMETRIC + _ASYMMETRIC:
            raise ValueError(f"Unknown JWT algorithm {algorithm!r}: expected {', '.join(_SYMMETRIC + _ASYMMETRIC)}")
    if secret is None and public_key is None:
        return {}
    if public_key is not None and "PRIVATE KEY" in public_key:
        raise ValueError("The JWT public key is a private one, which a verifier must not hold")
    held = public_key if public_key is None or "-----BEGIN CERTIFICATE-----" not in public_key else _key_of(public_key)
    keys: dict[str, Any] = {}
    for algorithm in algorithms:
        key, meant = (secret, "secret") if algorithm in _SYMMETRIC else (held, "public key")
        if key is None:
            raise ValueError(f"The JWT algorithm {algorithm} needs a {meant}")
        try:
            keys[algorithm] = jwt.get_algorithm_by_name(algorithm).prepare_key(key)
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"The JWT {meant} does not fit the algorithm {algorithm}: {error}") from None
    return keys


def _key_of(certificate: str) -> Any:
    """Return the public key of a certificate (PEM), the first of several. Raises ValueError."""
    from cryptography.x509 import load_pem_x509_certificate

    try:
        return load_pem_x509_certificate(certificate.encode()).public_key()
    except Exception:
        # cryptography has errors of several families for what it can't read.
        raise ValueError("The JWT public key is a certificate that can't be read") from None


def _seconds(payload: Mapping[str, Any], claim: str) -> float | None:
    value = payload.get(claim)
    if value is None:
        return None
    # JSON integers have no upper limit, floats do, so the range is checked before the conversion (NaN fails it too).
    # 2**53 seconds are 285 million years.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 2**53:
        raise AuthenticationError(f"The token's {claim} claim is not a time in seconds")
    return float(value)


def _text(
    payload: Mapping[str, Any], claim: str, longest: int = MAX_TOKEN_BYTES, *, numbers: bool = False
) -> str | None:
    value = payload.get(claim)
    if value is None:
        return None
    if numbers:
        value = as_text(value)
    # json.loads lets lone surrogates through, and no encoder after it does.
    if not isinstance(value, str) or len(value) > longest or any("\ud800" <= char <= "\udfff" for char in value):
        raise AuthenticationError(f"The token's {claim} claim is not text of at most {longest} characters")
    return value


def _scope(payload: Mapping[str, Any]) -> str | None:
    # Present but null must not read as absent, which grants everything.
    if "scope" in payload and payload["scope"] is None:
        raise AuthenticationError("The token's scope claim is not text")
    return _text(payload, "scope")


def _user_id(payload: Mapping[str, Any]) -> str:
    claim = "userId" if payload.get("userId") is not None else "sub"
    value = as_text(payload.get(claim))
    if value is None:
        raise AuthenticationError("The token has no userId or sub claim")
    if not is_id(value):
        raise AuthenticationError(
            f"The token's {claim} claim is not text of 1 to 255 characters without control characters"
        )
    return str(value)


def as_text(value: object) -> object:
    """Return a number as the text that JSON has for it, and anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < _MOST:
        return value
    return str(int(value)) if value == int(value) else repr(value)


def _tenants(payload: Mapping[str, Any]) -> tuple[tuple[str, ...], str | None]:
    listed, tenant_id = payload.get("tenants"), payload.get("tenantId")
    if tenant_id is not None and not is_tenant(tenant_id):
        raise AuthenticationError("The token's tenantId claim is not a tenant's name")
    if listed is None:
        return ((tenant_id,) if tenant_id is not None else ()), tenant_id
    if not isinstance(listed, list) or not all(map(is_tenant, listed)):
        raise AuthenticationError("The token's tenants claim is not a list of tenants' names")
    if tenant_id is not None and tenant_id not in listed:
        raise TenantDenied("The token's tenantId claim is not among its tenants")
    return tuple(dict.fromkeys(listed)), tenant_id
