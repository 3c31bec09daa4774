"""Every form of REDIS_URL, with a real server behind it: publish, hear, follow."""

import datetime
import ipaddress
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mintflow_realtime.emitter import Emitter
from mintflow_realtime.settings.settings import Settings
from tests.ports import free_port
from tests.servers import Node, RedisServer, stopping, until
from tests.watcher import Watcher


@pytest.fixture
def directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="mf-url-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def serves(url: str, **env: str) -> None:
    """Assert that a node with this URL hears what an Emitter with this URL publishes."""
    node = Node(REDIS_URL=url, **env)
    with stopping(node):
        node.wait_ready()
        assert not (node.directory / "data" / "redis.sock").exists(), "an embedded Redis was started too"
        watcher = Watcher(node.url, "/logs")
        with stopping(watcher), Emitter(settings=Settings.from_env(node.env)) as emit:
            offset = emit.logs.append("default", message="by this URL").offset
            assert watcher.wait("new_log")[0]["log"]["message"] == "by this URL"
            assert offset.endswith("-1")


def certificate(directory: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "redis of a test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = directory / "cert.pem", directory / "key.pem"
    cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert_file, key_file


def test_redis_with_password_and_database() -> None:
    server = RedisServer()
    with stopping(server), server.client() as client:
        client.config_set("requirepass", "p@ss/word")
        serves(f"redis://:p%40ss%2Fword@127.0.0.1:{server.port}/3")


def test_host_and_port() -> None:
    server = RedisServer()
    with stopping(server):
        node = Node(REDIS_HOST="127.0.0.1", REDIS_PORT=str(server.port), REDIS_DB="2")
        with stopping(node):
            node.wait_ready()
            with Emitter(settings=Settings.from_env(node.env)) as emit:
                emit.logs.append("default", message="in database 2")
            with redis.Redis(port=server.port, db=2) as client:
                assert client.exists("mf2:{default}:head:/logs"), client.keys("*")


def test_unix_socket(directory: Path) -> None:
    server = RedisServer()
    with stopping(server), server.client() as client:
        path = directory / "r.sock"
        server.stop()
        server.options["unixsocket"] = str(path)
        server.start()
        del client
        serves(f"unix://{path}")


def test_tls(directory: Path) -> None:
    cert, key = certificate(directory)
    server = RedisServer()
    with stopping(server):
        with server.client() as client:
            client.config_set("tls-cert-file", str(cert))
            client.config_set("tls-key-file", str(key))
            client.config_set("tls-ca-cert-file", str(cert))
            client.config_set("tls-auth-clients", "no")
            port = free_port()
            client.config_set("tls-port", port)
        serves(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={cert}")


def test_sentinel(directory: Path) -> None:
    server = RedisServer()
    port = free_port()
    conf = directory / "sentinel.conf"
    conf.write_text(f"port {port}\nbind 127.0.0.1\ndir {directory}\nsentinel monitor flows 127.0.0.1 {server.port} 1\n")
    with open(directory / "sentinel.out", "ab") as out:
        sentinel = subprocess.Popen([server.binary, str(conf), "--sentinel"], stdout=out, stderr=out)
    try:
        with stopping(server), redis.Redis(port=port) as client:
            until(lambda: _answers(client), 10, "the sentinel answers")
            serves(f"redis+sentinel://127.0.0.1:{port}/0/flows")
    finally:
        sentinel.terminate()
        sentinel.wait(10)


def _answers(client: "redis.Redis") -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
