"""JWT_PUBLIC_KEY of a deployer: a certificate serves, and what is no key ends the start with one sentence."""

import datetime
import subprocess
import time
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.plain_client import CONNECT, Plain
from tests.redis_fixture import PrivateRedis
from tests.servers import Node, stopping

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


def certificate() -> str:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "issuer")])
    begin = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    built = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(RSA_KEY.public_key())
    built = built.serial_number(1).not_valid_before(begin).not_valid_after(begin + datetime.timedelta(days=36500))
    return built.sign(RSA_KEY, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def pem(key: Any) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


@pytest.mark.parametrize(
    "written", [lambda text: text, lambda text: text.replace("\n", "\\n")], ids=["lines", "escapes"]
)
def test_a_certificates_key_is_taken(shared_redis: PrivateRedis, written: Any) -> None:
    node = Node(
        REDIS_URL=shared_redis.url,
        REDIS_PREFIX="certificate",
        JWT_SECRET="",
        JWT_ALGORITHMS="RS256",
        JWT_PUBLIC_KEY=written(certificate()),
    )
    with stopping(node):
        node.wait_ready()
        claims = {"sub": "auth0|1", "tenants": ["acme"], "exp": time.time() + 60}
        client = Plain(node.url)
        with stopping(client):
            assert client.join("/logs", {"token": jwt.encode(claims, RSA_KEY, "RS256")}).kind == CONNECT


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        ("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n", "RS256"),
        ("-----BEGIN PUBLIC KEY-----\nnothing\n-----END PUBLIC KEY-----\n", "RS256"),
        (pem(RSA_KEY)[:200], "RS256"),
        (pem(RSA_KEY), "ES256"),
        (pem(EC_KEY), "RS256"),
        (certificate().replace("A", "B"), "RS256"),
    ],
    ids=["certificate", "key", "cut", "rsa for ec", "ec for rsa", "damaged"],
)
def test_a_broken_key_ends_the_start_with_one_sentence(shared_redis: PrivateRedis, key: str, algorithm: str) -> None:
    node = Node(
        workers=2,
        REDIS_URL=shared_redis.url,
        REDIS_PREFIX="broken",
        JWT_SECRET="",
        JWT_ALGORITHMS=algorithm,
        JWT_PUBLIC_KEY=key,
    )
    with stopping(node):
        try:
            assert node.process.wait(60) == 1
        except subprocess.TimeoutExpired:
            pytest.fail(node.text())
        said = [line for line in node.text().splitlines() if "JWT_PUBLIC_KEY" in line]
        assert len(said) == 1 and said[0].startswith("mintflow: JWT_PUBLIC_KEY ") and said[0].endswith(".")
        assert "Traceback" not in node.text() and "Booting worker" not in node.text()
