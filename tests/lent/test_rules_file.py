"""The owner's file is read again when it has changed, and a broken one changes nothing."""

from pathlib import Path

import pytest

from discogrid.errors import UsageError
from discogrid_agent.rules import RULES_BYTES_MAX, Rule
from discogrid_agent.rules_file import RulesFile


def test_without_a_file_everybody_may_what_nobody_forbade(tmp_path: Path) -> None:
    assert RulesFile(tmp_path / "rules.toml", Rule(network=True)).rules.default == Rule(network=True)


@pytest.mark.parametrize("content", [b"[defualt]", b"\xff", b"#" * (RULES_BYTES_MAX + 1)])
def test_an_agent_does_not_start_under_broken_rules(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "rules.toml").write_bytes(content)
    with pytest.raises(UsageError, match=r"rules\.toml cannot be used"):
        RulesFile(tmp_path / "rules.toml", Rule())


def test_a_change_counts_once_it_has_settled(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    file = RulesFile(path, Rule())
    assert not file.look()
    path.write_text("[default]\nallow = false\n")
    assert not file.look()  # somebody may be writing it just now
    assert file.look()
    assert not file.rules.default.allow
    assert not file.look()


def test_a_file_that_breaks_or_goes_leaves_the_rules_as_they_were(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "rules.toml"
    path.write_text("[default]\nallow = false\n")
    file = RulesFile(path, Rule())
    path.write_text("[default]\nallow = maybe\n")
    assert not any(file.look() for _ in range(3))
    assert "line 2" in caplog.text
    path.unlink()
    assert not any(file.look() for _ in range(3))
    assert "are gone" in caplog.text
    assert not file.rules.default.allow


def test_another_way_to_write_the_same_is_no_change(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text("[default]\nallow = false\n")
    file = RulesFile(path, Rule())
    path.write_text("[default]\nallow=false # for now\n")
    assert not any(file.look() for _ in range(3))
