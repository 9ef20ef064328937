"""Encrypted connections, and a certificate of the client's own."""

import datetime
import ipaddress
import os

import pytest
from conftest import Server, until
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from signalbox import CredentialFileError, NotReadyError


class Authority:
    """Signs certificates, and writes them into a folder."""

    def __init__(self, folder):
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self.write("ca", self.key, self.certificate("test authority", self.key, authority=True))

    def issue(self, name):
        key = ec.generate_private_key(ec.SECP256R1())
        self.write(name, key, self.certificate(name, key))
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"

    def certificate(self, name, key, *, authority=False):
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(authority, None), critical=True)
        )
        names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def write(self, name, key, certificate):
        (self.folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        path = self.folder / f"{name}.key"
        path.touch(mode=0o600)
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )


class SecureServer(Server):
    """Its own calls are made by the command line's token alone; the tests only watch."""

    @property
    def url(self):
        return f"https://127.0.0.1:{self.port}"


@pytest.fixture
def authority(tmp_path):
    (tmp_path / "certificates").mkdir()
    return Authority(tmp_path / "certificates")


def serve(folder, authority, **more):
    certificate, key = authority.issue("server")
    environment = {"SIGNALBOX_TLS_CERT_FILE": str(certificate), "SIGNALBOX_TLS_KEY_FILE": str(key), **more}
    return SecureServer(folder, environment)


def test_the_server_is_known_by_its_authority(authority, tmp_path, connect):
    server = serve(tmp_path, authority)
    try:
        trusted = {"token": server.admin_token, "secrets": False}
        client = connect(server, ca_file=authority.folder / "ca.pem", **trusted)
        client.wait_ready()
        assert client.status().source == "stream"
        stranger = connect(server, **trusted)
        with pytest.raises(NotReadyError) as refused:
            stranger.wait_ready(timeout=1)
        assert refused.value.last_error.code == "UNAVAILABLE"
    finally:
        server.kill()


def test_files_that_can_not_be_used_are_told_in_words(authority, connect):
    """gRPC says that there is no security handshaker."""
    (certificate, key), (_, other) = authority.issue("worker"), authority.issue("other")
    text = authority.folder / "text.pem"
    text.write_text("no certificate\n")
    ca = authority.folder / "ca.pem"
    for files, told in (
        ({"ca_file": authority.folder / "none.pem"}, "can't read .*none.pem: No such file"),
        ({"ca_file": key}, "it holds no certificate"),
        ({"ca_file": ca, "cert_file": text, "key_file": key}, "text.pem: it holds no certificate"),
        ({"ca_file": ca, "cert_file": certificate, "key_file": text}, "text.pem: it holds no private key"),
        ({"ca_file": ca, "cert_file": certificate, "key_file": other}, "not the key of the certificate in"),
    ):
        client = connect(None, url="https://127.0.0.1:1", token="t", **files)
        until(lambda client=client: client.status().last_error)
        with pytest.raises(CredentialFileError, match=told):
            raise client.status().last_error


def test_a_client_shows_its_certificate(authority, tmp_path, connect):
    server = serve(tmp_path, authority, SIGNALBOX_TLS_CLIENT_CA_FILE=os.fspath(authority.folder / "ca.pem"))
    try:
        certificate, key = authority.issue("worker")
        known = {"token": server.admin_token, "secrets": False, "ca_file": authority.folder / "ca.pem"}
        client = connect(server, cert_file=certificate, key_file=key, **known)
        client.wait_ready()
        with pytest.raises(NotReadyError):
            connect(server, **known).wait_ready(timeout=1)
    finally:
        server.kill()
