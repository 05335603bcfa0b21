"""The key that local keys are signed with: private in a file of the accounts command's, public in the store."""

import os
import tempfile
from pathlib import Path
from typing import Self

import jwt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

SIGNING_KEYS = "stt:signing-keys"
"""The store's hash of public keys, raw, by key id."""
FILE_NAME = "signing-key.pem"
ALGORITHM = "EdDSA"


class Signer:
    """Signs claims with an Ed25519 key; `kid` is the key's id, which follows from the key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public_key = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        digest = hashes.Hash(hashes.SHA256())
        digest.update(self.public_key)
        self.kid = digest.finalize()[:12].hex()

    @classmethod
    def in_memory(cls) -> Self:
        """Make one whose key nobody else will ever have."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_folder(cls, data_dir: Path) -> Self:
        """Return the one of this folder, made (0600) where there is none yet; OSError where that cannot be."""
        path = data_dir / FILE_NAME
        if not path.exists():
            data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write_new(path, _to_pem(Ed25519PrivateKey.generate()))
        try:
            key = load_pem_private_key(path.read_bytes(), password=None)
        except ValueError:
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            raise OSError(f"{path} holds no Ed25519 key")
        return cls(key)

    def sign(self, claims: dict[str, object]) -> str:
        """Return the claims as a JWT."""
        return jwt.encode(claims, self._key, ALGORITHM, {"kid": self.kid})


def read_public(key: bytes) -> Ed25519PublicKey:
    """Return a public key as it lies in the store."""
    return Ed25519PublicKey.from_public_bytes(key)


def _to_pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write_new(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read; of two who do it at once the first one's stays."""
    descriptor, name = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.link(name, path)
    except FileExistsError:
        pass
    finally:
        os.unlink(name)
