"""Secrets and keys among the settings: what may be one, and what fits together. Never shown."""

import re
from collections.abc import Iterator

from mintflow_realtime.settings.reader import ID_PATTERN, Reader

SECRET_ALGORITHMS = ("HS256", "HS384", "HS512")
KEY_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES256K", "ES384", "ES512", "EdDSA")
SECRET_BYTES = 32


def read_secret(read: Reader, name: str, length: int = SECRET_BYTES) -> str | None:
    """Return a secret of at least `length` bytes, or None. Raises SettingError."""
    found = read.find(name)
    if found is None:
        return None
    if not isinstance(found.value, str):
        raise read.fault(name, "must be text")
    _check_secret(read, name, found.value, length)
    return found.value  # as it is: the issuer signs with its spaces too


def read_jwt_keys(read: Reader) -> tuple[str | None, str | None, tuple[str, ...]]:
    """Return JWT_SECRET, JWT_PUBLIC_KEY and the algorithms, each of which has its key where any is set."""
    algorithms = read.listed("JWT_ALGORITHMS", re.compile(".*"))
    for algorithm in algorithms:
        if algorithm not in SECRET_ALGORITHMS + KEY_ALGORITHMS:
            known = ", ".join(SECRET_ALGORITHMS + KEY_ALGORITHMS)
            raise read.fault("JWT_ALGORITHMS", f"has {algorithm[:40]!r}; known are {known}")
    # RFC 7518, 3.2: a secret is at least as long as the hash.
    longest = max((int(name[2:]) // 8 for name in algorithms if name in SECRET_ALGORITHMS), default=SECRET_BYTES)
    secret, public_key = read_secret(read, "JWT_SECRET", longest), _read_public_key(read)
    if secret or public_key or read.find("JWT_ALGORITHMS"):
        for algorithm in algorithms:
            if algorithm in SECRET_ALGORITHMS and not secret:
                raise read.fault("JWT_ALGORITHMS", f"has {algorithm}, which needs JWT_SECRET")
            if algorithm in KEY_ALGORITHMS and not public_key:
                raise read.fault("JWT_ALGORITHMS", f"has {algorithm}, which needs JWT_PUBLIC_KEY")
    return secret, public_key, algorithms


def _read_public_key(read: Reader) -> str | None:
    text = read.text("JWT_PUBLIC_KEY").replace("\\n", "\n")
    if not text:
        return None
    if "PRIVATE KEY" in text:
        raise read.fault("JWT_PUBLIC_KEY", "holds a private key, which belongs to the issuer alone")
    if not text.startswith("-----BEGIN "):
        raise read.fault("JWT_PUBLIC_KEY", "must be a key in PEM form, which starts with -----BEGIN")
    return text


def read_api_keys(read: Reader) -> dict[str, str]:
    """Return the tenant of each key: from `key:tenant` pairs, or a dictionary. Raises SettingError."""
    keys: dict[str, str] = {}
    for number, (key, tenant) in enumerate(_pairs(read), 1):
        if not re.fullmatch(ID_PATTERN, tenant):
            raise read.fault("API_KEYS", f"must be key:tenant pairs; pair {number} has no valid tenant")
        if not re.fullmatch(r"[!-~]+", key):
            raise read.fault("API_KEYS", f"must have keys of visible ASCII characters; pair {number} has not")
        if key in keys:
            raise read.fault("API_KEYS", f"has the key of pair {number} twice")
        _check_secret(read, "API_KEYS", key, SECRET_BYTES)
        keys[key] = tenant
    return keys


def _pairs(read: Reader) -> Iterator[tuple[str, str]]:
    value = read.value("API_KEYS")
    if isinstance(value, dict):
        if not all(isinstance(text, str) for pair in value.items() for text in pair):
            raise read.fault("API_KEYS", "must have texts as keys and tenants")
        yield from value.items()
        return
    for pair in read.members("API_KEYS", unique=False):
        key, colon, tenant = pair.rpartition(":")
        yield (key, tenant) if colon else (pair, "")


# Secrets of documentation and templates, often put together to be long enough.
_WORDS = r"""secret|change|replace|this|your|jwt|json|web|token|key|pass|word|phrase|default|example|sample|test|demo
|develop|ment|dev|prod|uction|super|very|really|long|please|some|random|string|value|here|insert|with|and|for|use|only
|sign|ing|auth|entication|application|app|server|socket|io|flask|mintflow|supersafe|secure|safe|strong|private
|minimum|least|must|characters|chars|char|bytes|byte|bit|hs256|256|512|admin|root|letmein|qwerty|asdf
|abcdefghijklmnopqrstuvwxyz|abcdef|0123456789|1234567890|123456789|12345678|123456|1234|123"""


def _check_secret(read: Reader, name: str, secret: str, length: int) -> None:
    if secret.lstrip().startswith("-----BEGIN"):
        raise read.fault(name, "holds a PEM key, which anyone may know; a public key belongs in JWT_PUBLIC_KEY")
    size = len(secret.encode("utf-8", "surrogateescape"))
    if size < length:
        raise read.fault(
            name, f"must have at least {length} bytes, such as `openssl rand -hex {length}`; it has {size}"
        )
    left = re.sub(rf"[^a-z0-9]|{_WORDS}", "", secret.lower(), flags=re.VERBOSE)
    if len(set(secret)) < 6 or len(left) < 8 or _starts_over(secret):
        raise read.fault(name, f"is too well known or too regular; take one from `openssl rand -hex {length}`")


def _starts_over(secret: str) -> bool:
    """Tell whether `secret` is a piece of at most 8 characters over and over, the last one perhaps cut off."""
    return any(secret[piece:] == secret[:-piece] for piece in range(1, 9))
