"""What TLS is set up with: the authorities, and this client's certificate with its key.

Owns the reading of these files, and what is wrong with them in words: gRPC would only say that there is no handshake. Must not know
whom they are shown to.
"""

from __future__ import annotations

import pathlib
import ssl
from typing import Any

import grpc

from . import _files
from .errors import CredentialFileError

_MAX_PEM_BYTES = 4 << 20
#: OpenSSL's words for a key of another certificate.
_MISMATCHES = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH")


def credentials(
    ca_file: pathlib.Path | None, cert_file: pathlib.Path | None, key_file: pathlib.Path | None
) -> Any:
    """gRPC's credentials. The files are read anew each time, so that they can be replaced. Raises `CredentialFileError`."""
    authorities = _read(ca_file, "CERTIFICATE")
    chain, key = _read(cert_file, "CERTIFICATE"), _read(key_file, "PRIVATE KEY")
    if cert_file is not None and key_file is not None:
        _check_pair(cert_file, key_file)
    return grpc.ssl_channel_credentials(
        root_certificates=authorities, private_key=key, certificate_chain=chain
    )


def _read(path: pathlib.Path | None, what: str) -> bytes | None:
    if path is None:
        return None
    try:
        pem = _files.read(path, _MAX_PEM_BYTES)
    except OSError as error:
        raise CredentialFileError(f"can't read {path}: {error.strerror or error}") from None
    if f"{what}-----".encode() not in pem:
        raise CredentialFileError(f"can't use {path}: it holds no {what.lower()} in PEM")
    return pem


def _check_pair(cert_file: pathlib.Path, key_file: pathlib.Path) -> None:
    # A pipe can be read only once.
    if not (cert_file.is_file() and key_file.is_file()):
        return
    try:
        # Without a password of its own it would ask whoever sits at the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(cert_file, key_file, lambda: "")
    except ssl.SSLError as error:
        # Whatever else OpenSSL does not like gRPC may, which has a library of its own.
        if error.reason in _MISMATCHES:
            raise CredentialFileError(
                f"can't use {key_file}: it is not the key of the certificate in {cert_file}"
            ) from None
    except OSError:
        # Replaced meanwhile; what was read counts.
        return
