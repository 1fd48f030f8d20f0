"""What `doctor` says of the boxes that this machine can and cannot build."""

from types import SimpleNamespace

import pytest

from discogrid.cli.doctor import Verdict, _box, _network
from discogrid.types import SandboxLevel
from discogrid_agent.sandbox import probe
from discogrid_agent.uplink import proof


def found(monkeypatch: pytest.MonkeyPatch, level: SandboxLevel) -> None:
    box = SimpleNamespace(level=level, no_network="only the strict box has one to give")
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


@pytest.mark.parametrize(
    ("found_out", "verdict", "said"),
    [
        (proof.NetworkProof(), Verdict.OK, "reach the internet and nothing else"),
        (
            proof.NetworkProof("it needs a tap", "open the tap"),
            Verdict.WARN,
            "cannot have one: it needs a tap",
        ),
    ],
)
def test_whether_tasks_can_have_a_network(
    monkeypatch: pytest.MonkeyPatch, found_out: proof.NetworkProof, verdict: Verdict, said: str
) -> None:
    found(monkeypatch, SandboxLevel.STRICT)
    monkeypatch.setattr(proof, "prove_network", lambda box: found_out)
    check = _network()
    assert (check.verdict, check.fix) == (verdict, found_out.fix)
    assert said in check.what


def test_where_the_box_is_weak_tasks_have_no_network_to_ask_for(monkeypatch: pytest.MonkeyPatch) -> None:
    found(monkeypatch, SandboxLevel.CONFINED)
    assert _network().what == "tasks cannot have one: only the strict box has one to give"
