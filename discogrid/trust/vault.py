"""A grid's owner key outside of its home: a file that is worth nothing without its passphrase.

Scrypt (RFC 7914) makes a key of the passphrase, ChaCha20-Poly1305 (RFC 8439) seals the owner's key with it. What
stands around in the clear, the grid's id and name, is authenticated with it.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from discogrid.errors import KeyFileError, SignatureRefused, UsageError
from discogrid.keys import Identity, from_json, to_json
from discogrid.trust.roster import Roster, open_roster

SCHEMA = "discogrid.owner-backup/1"
SCRYPT_N = 1 << 17  # 128 MiB and half a second a guess: OWASP's password storage cheat sheet
SCRYPT_N_MAX = 1 << 20  # whatever a file asks for
SCRYPT_R = 8
SCRYPT_P = 1
SALT_BYTES = 16
NONCE_BYTES = 12
KEY_BYTES = 32
PASSPHRASE_CHARACTERS_MIN = 12
BACKUP_BYTES_MAX = 4 << 20  # a roster of 1 MiB in hexadecimal, and the key


@dataclass(frozen=True, slots=True)
class Backup:
    """An owner's key and the newest roster it had signed when the backup was made.

    `coordinator` is the identity of the grid's coordinator, when the backup was made on that machine: with it another
    machine takes its place and no member has to join again.
    """

    owner: Identity
    roster: Roster
    coordinator: Identity | None = None


def back_up(file: Path, passphrase: str, backup: Backup) -> None:
    """Write a new file and prove that it can be read; UsageError when the passphrase is short or the file exists."""
    if len(passphrase) < PASSPHRASE_CHARACTERS_MIN:
        raise UsageError(
            f"a passphrase of {len(passphrase)} characters is too short",
            why="Whoever finds the file may guess as long as they like.",
            fix=f"Take at least {PASSPHRASE_CHARACTERS_MIN} characters: four or five random words are good.",
        )
    salt, nonce = os.urandom(SALT_BYTES), os.urandom(NONCE_BYTES)
    header = {
        "schema": SCHEMA,
        "grid": backup.owner.id,
        "name": backup.roster.body.name,
        "scrypt": {"n": SCRYPT_N, "r": SCRYPT_R, "p": SCRYPT_P, "salt": salt.hex()},
        "nonce": nonce.hex(),
    }
    secret = json.dumps([to_json(each) for each in (backup.owner, backup.coordinator) if each is not None])
    cipher = ChaCha20Poly1305(_derived(passphrase, salt, SCRYPT_N))
    sealed = cipher.encrypt(nonce, secret.encode(), _bound(header))
    text = json.dumps({**header, "sealed": sealed.hex(), "roster": backup.roster.envelope.hex()}, indent=2)
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise UsageError(
            f"{file} cannot be made: {error.strerror}", fix="Name a new file, in a folder that is there."
        ) from None
    with os.fdopen(descriptor, "w") as written:
        written.write(text)
        written.flush()
        os.fsync(written.fileno())
    if restore(file, passphrase).owner.id != backup.owner.id:
        raise KeyFileError(f"{file} does not hold what was written to it")


def restore(file: Path, passphrase: str) -> Backup:
    """What a backup holds; KeyFileError when it is damaged or the passphrase is another one."""
    try:
        with file.open("rb") as read:
            kept = json.loads(read.read(BACKUP_BYTES_MAX))
        sealed, envelope = bytes.fromhex(kept.pop("sealed")), bytes.fromhex(kept.pop("roster"))
        cost, salt = int(kept["scrypt"]["n"]), bytes.fromhex(kept["scrypt"]["salt"])
        if kept["schema"] != SCHEMA or not 2 <= cost <= SCRYPT_N_MAX:
            raise KeyFileError(f"{file} is no backup that this discogrid reads")
        cipher = ChaCha20Poly1305(_derived(passphrase, salt, cost))
        secret = json.loads(cipher.decrypt(bytes.fromhex(kept["nonce"]), sealed, _bound(kept)))
        owner, *coordinator = [from_json(each) for each in secret]
        return Backup(owner, open_roster(envelope, owner.public, None), *coordinator)
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None
    except InvalidTag:
        raise KeyFileError(
            f"{file} does not open with this passphrase",
            fix="Try again; or the file is damaged: take another copy.",
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, SignatureRefused) as error:
        raise KeyFileError(f"{file} is damaged ({error})", fix="Take another copy of it.") from None


def _derived(passphrase: str, salt: bytes, cost: int) -> bytes:
    return Scrypt(salt, KEY_BYTES, cost, SCRYPT_R, SCRYPT_P).derive(passphrase.encode())


def _bound(header: Mapping[str, object]) -> bytes:
    """What is authenticated beside the key: everything that stands in the clear."""
    return json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
