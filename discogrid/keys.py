"""A node's identity: one Ed25519 key that signs and one CURVE key pair that encrypts, in files only their owner reads."""

import base64
import hashlib
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import zmq
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from discogrid.envelope import seal
from discogrid.errors import KeyFileError
from discogrid.types import NodeId

SCHEMA = "discogrid.identity/1"
SHOWN = 8  # characters of a node id that people are shown
KEY_FILE_BYTES_MAX = 4096


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this node is. `curve_public` and `curve_secret` are Z85, 40 characters each."""

    id: NodeId
    signing: Ed25519PrivateKey
    curve_public: bytes
    curve_secret: bytes

    @property
    def public(self) -> bytes:
        """The public signing key, 32 bytes."""
        return self.signing.public_key().public_bytes_raw()

    def seal(self, payload_type: str, payload: bytes) -> bytes:
        """An envelope signed by this node."""
        return seal(payload_type, payload, self.signing, self.id)


def node_id(public: bytes) -> NodeId:
    """Base32 of the SHA-256 of a public signing key: 52 characters."""
    return NodeId(base64.b32encode(hashlib.sha256(public).digest()).decode().rstrip("=").lower())


def new_identity() -> Identity:
    """Fresh random keys."""
    signing = Ed25519PrivateKey.generate()
    curve_public, curve_secret = zmq.curve_keypair()
    return Identity(node_id(signing.public_key().public_bytes_raw()), signing, curve_public, curve_secret)


def public_key(raw: bytes) -> Ed25519PublicKey:
    """The signing key in 32 raw bytes."""
    return Ed25519PublicKey.from_public_bytes(raw)


def load_or_create(path: Path) -> Identity:
    """The identity in this file, made on first use; KeyFileError when it is damaged or others may read it."""
    try:
        try:
            return _load(path)
        except FileNotFoundError:
            _create(path, new_identity())  # two processes may race: the first file stays and both read it
            return _load(path)
    except OSError as error:
        raise KeyFileError(
            f"the key file {path} cannot be read or made: {error.strerror}",
            fix="It has to be a file of its own, no link, in a folder that is yours.",
        ) from None


def _load(path: Path) -> Identity:
    # Nobody is to wait for what only looks like a key file, hence O_NONBLOCK.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise KeyFileError(f"the key file {path} is no file")
    with os.fdopen(descriptor, "rb") as file:
        if hasattr(os, "getuid") and (status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077):
            raise KeyFileError(
                f"the key file {path} can be read by others or is not yours",
                why="Whoever reads it can act in your name.",
                fix=f"Run: chmod 600 {path}  and think of who may have read it.",
            )
        raw = file.read(KEY_FILE_BYTES_MAX)
    try:
        kept = json.loads(raw)
        signing = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(kept["signing"]))
        secret = kept["curve"].encode()
        identity = Identity(
            node_id(signing.public_key().public_bytes_raw()), signing, zmq.curve_public(secret), secret
        )
        if kept["schema"] != SCHEMA or kept["node"] != identity.id:
            raise ValueError("its keys are not those of the node it names")  # noqa: TRY301
    except (ValueError, KeyError, TypeError, AttributeError, zmq.ZMQError) as error:
        raise KeyFileError(
            f"the key file {path} is damaged ({error})",
            fix="Put back a copy of it, or move it away to become a new node.",
        ) from None
    return identity


def _create(path: Path, identity: Identity) -> None:
    text = json.dumps(
        {
            "schema": SCHEMA,
            "node": identity.id,
            "signing": identity.signing.private_bytes_raw().hex(),
            "curve": identity.curve_secret.decode(),
        },
        indent=2,
    )
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)  # unlike a rename it never replaces the file of a faster process
        except FileExistsError:
            return
    finally:
        draft.unlink(missing_ok=True)
