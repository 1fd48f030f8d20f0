"""An owner's key in a backup: it comes back with the passphrase, and only with it."""

import json
import stat
from pathlib import Path

import pytest

from discogrid.errors import KeyFileError, UsageError
from discogrid.keys import Identity, new_identity
from discogrid.trust import vault
from discogrid.trust.owner import Owner, member_of
from discogrid.trust.vault import Backup, back_up, restore
from discogrid.types import Role
from tests.trust.forge import NOW

PASSPHRASE = "four quiet random words"


@pytest.fixture(autouse=True)
def _cheap_guesses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault, "SCRYPT_N", 1 << 4)


def backup(coordinator: Identity | None = None) -> Backup:
    signer, first = new_identity(), new_identity()
    roster = Owner(signer).found("home", member_of(first.statement(), "desk", tuple(Role)), NOW)
    return Backup(signer, roster, coordinator)


def test_what_was_backed_up_comes_back(tmp_path: Path) -> None:
    made, file = backup(new_identity()), tmp_path / "home.backup"
    back_up(file, PASSPHRASE, made)
    found = restore(file, PASSPHRASE)
    assert found.owner.signing.encode() == made.owner.signing.encode()
    assert found.roster.body == made.roster.body
    assert found.coordinator is not None
    assert made.coordinator is not None
    assert found.coordinator.id == made.coordinator.id
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_backup_says_no_secret_in_the_clear(tmp_path: Path) -> None:
    made, file = backup(), tmp_path / "home.backup"
    back_up(file, PASSPHRASE, made)
    text = file.read_text()
    assert made.owner.signing.encode().hex() not in text
    assert made.owner.curve_secret.decode() not in text
    assert made.owner.id in text


def test_a_wrong_passphrase_opens_nothing(tmp_path: Path) -> None:
    file = tmp_path / "home.backup"
    back_up(file, PASSPHRASE, backup())
    with pytest.raises(KeyFileError, match="passphrase"):
        restore(file, PASSPHRASE + "s")


@pytest.mark.parametrize("field", ["grid", "name", "nonce", "sealed"])
def test_a_changed_backup_opens_no_more(tmp_path: Path, field: str) -> None:
    file = tmp_path / "home.backup"
    back_up(file, PASSPHRASE, backup())
    kept = json.loads(file.read_text())
    kept[field] = ("0" if kept[field][0] != "0" else "1") + kept[field][1:]
    file.write_text(json.dumps(kept))
    with pytest.raises(KeyFileError):
        restore(file, PASSPHRASE)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 1}', "\x00"])
def test_a_file_that_is_no_backup_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "home.backup"
    file.write_text(text)
    with pytest.raises(KeyFileError, match="damaged"):
        restore(file, PASSPHRASE)


def test_a_backup_cannot_ask_for_endless_work(tmp_path: Path) -> None:
    file = tmp_path / "home.backup"
    back_up(file, PASSPHRASE, backup())
    kept = json.loads(file.read_text())
    kept["scrypt"]["n"] = 1 << 40
    file.write_text(json.dumps(kept))
    with pytest.raises(KeyFileError, match="no backup that this discogrid reads"):
        restore(file, PASSPHRASE)


def test_a_short_passphrase_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="too short"):
        back_up(tmp_path / "home.backup", "short", backup())
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_there_is_never_written_over(tmp_path: Path) -> None:
    file = tmp_path / "home.backup"
    file.write_text("precious")
    with pytest.raises(UsageError, match="exists"):
        back_up(file, PASSPHRASE, backup())
    assert file.read_text() == "precious"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="gone"):
        restore(tmp_path / "gone", PASSPHRASE)
