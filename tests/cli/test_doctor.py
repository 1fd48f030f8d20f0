"""What `doctor` says of the boxes that this machine can and cannot build."""

from types import SimpleNamespace

import pytest

from discogrid.cli.doctor import Verdict, _box
from discogrid.types import SandboxLevel
from discogrid_agent.sandbox import probe


def found(monkeypatch: pytest.MonkeyPatch, level: SandboxLevel) -> None:
    box = SimpleNamespace(level=level)
    monkeypatch.setattr(probe, "best_box", lambda: probe.Probed(box, "no namespaces", "allow them"))


def test_a_confined_box_may_be_lent_by_who_chooses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found(monkeypatch, SandboxLevel.CONFINED)
    check = _box()
    assert (check.verdict, check.fix) == (Verdict.WARN, "allow them")
    assert "agent --sandbox confined" in check.what
    assert "cannot be lent" not in check.what
    assert "no namespaces" in check.what


def test_without_a_box_the_machine_cannot_be_lent(monkeypatch: pytest.MonkeyPatch) -> None:
    found(monkeypatch, SandboxLevel.NONE)
    check = _box()
    assert (check.verdict, check.fix) == (Verdict.WARN, "allow them")
    assert "cannot be lent" in check.what
