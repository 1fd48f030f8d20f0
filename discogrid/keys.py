"""A node's identity: one Ed25519 key that signs and one CURVE key pair that encrypts, in files only their owner reads."""

import base64
import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import msgspec
import zmq
from nacl.signing import SigningKey, VerifyKey

from discogrid.envelope import seal, unproven, unseal
from discogrid.errors import KeyFileError, SignatureRefused, UsageError, WireError
from discogrid.types import NodeId
from discogrid.wire import unpack

SCHEMA = "discogrid.identity/1"
SHOWN = 8  # characters of a node id that people are shown
CHECKED = 2  # characters behind them that betray a wrong one
KEY_FILE_BYTES_MAX = 4096
STATEMENT_TYPE = "discogrid/node/1"
ROTATION_TYPE = "discogrid/rotation/1"  # a statement of new keys, sealed by the old one
STATEMENT_BYTES_MAX = 512
KEYS_REMEMBERED_MAX = 1024


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this node is. `curve_public` and `curve_secret` are Z85, 40 characters each."""

    id: NodeId
    signing: SigningKey = field(repr=False)  # which shows itself to whoever prints it
    curve_public: bytes
    curve_secret: bytes = field(repr=False)

    @property
    def public(self) -> bytes:
        """The public signing key, 32 bytes."""
        return bytes(self.signing.verify_key)

    def seal(self, payload_type: str, payload: bytes) -> bytes:
        """An envelope signed by this node."""
        return seal(payload_type, payload, self.signing, self.id)

    def statement(self) -> bytes:
        """This node's signed word that its signing and its CURVE key belong together; always the same bytes."""
        return self.seal(STATEMENT_TYPE, msgspec.msgpack.encode(Stated(self.public, self.curve_public)))


class Stated(msgspec.Struct, frozen=True, array_like=True):
    """What a node states of itself: its public signing key (32 bytes) and its public CURVE key (Z85)."""

    signing: bytes
    curve: bytes

    @property
    def id(self) -> NodeId:
        """The node's id."""
        return node_id(self.signing)


def check_statement(statement: bytes) -> Stated:
    """What a node states, proven by its own signature; SignatureRefused otherwise. About 50 µs."""
    if len(statement) > STATEMENT_BYTES_MAX:
        raise SignatureRefused(f"a statement of {len(statement)} bytes is over {STATEMENT_BYTES_MAX}")
    try:
        # The key it is proven by is inside: that one is read first, and believed once the signature holds.
        stated = msgspec.convert(
            unpack(unproven(statement, STATEMENT_TYPE), limit=STATEMENT_BYTES_MAX), Stated
        )
        key = public_key(stated.signing)
    except (ValueError, WireError) as error:  # msgspec.ValidationError is a ValueError
        raise SignatureRefused(f"a node's statement cannot be read: {error}") from None
    unseal(statement, STATEMENT_TYPE, lambda signer: key if signer == stated.id else None)
    return stated


def node_id(public: bytes) -> NodeId:
    """Base32 of the SHA-256 of a public signing key: 52 characters."""
    return NodeId(base64.b32encode(hashlib.sha256(public).digest()).decode().rstrip("=").lower())


def shown_id(node: NodeId) -> str:
    """A node id as people are shown it and may type it: its beginning, and two characters that betray a slip."""
    short = node[:SHOWN]
    return f"{short}-{_check_characters(short)}"


def typed_id(text: str) -> str:
    """The beginning of a node id that somebody typed; UsageError when its check characters do not fit it."""
    short, _, check = text.strip().lower().partition("-")
    if len(short) != SHOWN or check != _check_characters(short):
        raise UsageError(
            f"{text!r} is no node id", fix="Copy it as it is shown: eight characters, a dash, two characters."
        )
    return short


def _check_characters(short: str) -> str:
    return base64.b32encode(hashlib.sha256(short.encode()).digest()).decode()[:CHECKED].lower()


def new_identity() -> Identity:
    """Fresh random keys."""
    signing = SigningKey.generate()
    curve_public, curve_secret = zmq.curve_keypair()
    return Identity(node_id(bytes(signing.verify_key)), signing, curve_public, curve_secret)


@lru_cache(KEYS_REMEMBERED_MAX)
def public_key(raw: bytes) -> VerifyKey:
    """The signing key in 32 raw bytes."""
    return VerifyKey(raw)


def load_or_create(path: Path) -> Identity:
    """The identity in this file, made on first use; KeyFileError when it is damaged or others may read it."""
    with _explained(path):
        try:
            return _load(path)
        except FileNotFoundError:
            _create(path, new_identity())  # two processes may race: the first file stays and both read it
            return _load(path)


def load(path: Path) -> Identity:
    """The identity in this file; KeyFileError when there is none, it is damaged, or others may read it."""
    with _explained(path):
        return _load(path)


def store(path: Path, identity: Identity) -> None:
    """Keep an identity in a new file for its owner only; KeyFileError when there is one already."""
    with _explained(path):
        _create(path, identity)
        if _load(path).id != identity.id:
            raise KeyFileError(
                f"{path} holds the key of another node", fix="Move that file away first, or leave it."
            )


def to_json(identity: Identity) -> str:
    """An identity with its secret keys, as key files hold it."""
    return json.dumps(
        {
            "schema": SCHEMA,
            "node": identity.id,
            "signing": bytes(identity.signing).hex(),
            "curve": identity.curve_secret.decode(),
        },
        indent=2,
    )


def from_json(raw: bytes | str) -> Identity:
    """The identity that `to_json` wrote; ValueError when it is damaged."""
    try:
        kept = json.loads(raw)
        signing = SigningKey(bytes.fromhex(kept["signing"]))
        secret = kept["curve"].encode()
        identity = Identity(node_id(bytes(signing.verify_key)), signing, zmq.curve_public(secret), secret)
        fits = (kept["schema"], kept["node"]) == (SCHEMA, identity.id)
    except (KeyError, TypeError, AttributeError, zmq.ZMQError) as error:
        raise ValueError(str(error)) from None
    if not fits:
        raise ValueError("its keys are not those of the node it names")
    return identity


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
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
        return from_json(raw)
    except ValueError as error:
        raise KeyFileError(
            f"the key file {path} is damaged ({error})",
            fix="Put back a copy of it, or move it away to become a new node.",
        ) from None


def _create(path: Path, identity: Identity) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(to_json(identity))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)  # unlike a rename it never replaces the file of a faster process
        except FileExistsError:
            return
    finally:
        draft.unlink(missing_ok=True)
