"""A real box, and a runner below a folder of its own."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from discogrid.types import SandboxLevel
from discogrid_agent.runner import Runner
from discogrid_agent.sandbox.box import Box
from discogrid_agent.sandbox.bubblewrap import Bubblewrap, find_bubblewrap
from discogrid_agent.sandbox.native import Native
from discogrid_agent.sandbox.probe import best_box, box_of, try_box
from discogrid_agent.sandbox.strict import StrictBox
from discogrid_agent.uplink.proof import prove_network
from tests.box.bench import Bench
from tests.box.warm_first import WarmFirst
from tests.network import namespaces
from tests.skips import skip_without_uplink


@pytest.fixture(scope="session")
def strict() -> Box:
    probed = best_box()
    if probed.box.level is not SandboxLevel.STRICT:
        pytest.skip(f"the strict box does not work here: {probed.reason} {probed.fix}")
    return probed.box


@pytest.fixture
def cold_bench(tmp_path: Path, strict: Box) -> Iterator[Bench]:
    yield from _bench(tmp_path, strict)


@pytest.fixture(scope="session")
def by_bwrap() -> Box:
    """The strict box as machines have it that let bwrap alone make namespaces."""
    [program, *_] = find_bubblewrap()
    box = StrictBox(Bubblewrap(program))
    refusal = try_box(box)
    assert refusal is None, refusal
    return box


@pytest.fixture
def bwrap_bench(tmp_path: Path, by_bwrap: Box) -> Iterator[Bench]:
    yield from _bench(tmp_path, by_bwrap)


@pytest.fixture(scope="session")
def tun() -> None:
    """Whoever runs tasks may open the tun device; as root, in a mount namespace that this process goes into for good."""
    skip_without_uplink()
    if os.geteuid() == 0:
        namespaces.unshare(namespaces.MOUNTS)
        namespaces.keep_mounts()
        namespaces.open_tun()


@pytest.fixture(scope="session", params=["native", "bwrap"])
def online(request: pytest.FixtureRequest, tun: None) -> StrictBox:
    """The strict box, with networks for tasks, in every way of making it."""
    box = StrictBox(Native() if request.param == "native" else Bubblewrap(find_bubblewrap()[0]))
    proof = prove_network(box)
    assert not proof.reason, proof
    return box


@pytest.fixture
def online_bench(tmp_path: Path, online: StrictBox) -> Iterator[Bench]:
    yield from _bench(tmp_path, online)


@pytest.fixture
def bare_bench(tmp_path: Path) -> Iterator[Bench]:
    yield from _bench(tmp_path, box_of(SandboxLevel.NONE))


@pytest.fixture
def warm_bench(tmp_path: Path, strict: Box) -> Iterator[Bench]:
    assert isinstance(strict, StrictBox)
    (tmp_path / "warm").mkdir()
    yield from _bench(tmp_path / "warm", WarmFirst(strict))


@pytest.fixture(scope="session")
def confined() -> Box:
    return box_of(SandboxLevel.CONFINED)


@pytest.fixture
def confined_bench(tmp_path: Path, confined: Box) -> Iterator[Bench]:
    yield from _bench(tmp_path, confined)


BENCHES = {
    "strict": "cold_bench",
    "bwrap": "bwrap_bench",
    "warm": "warm_bench",
    "confined": "confined_bench",
    "none": "bare_bench",
}
# Root's tasks run as a user who cannot enter root's closed home: there, `test_rootless` is the run that counts.
CLOSED = os.geteuid() == 0 and any(not part.stat().st_mode & 1 for part in Path(sys.base_prefix).parents)
collect_ignore = ["test_confined.py"] if CLOSED else []
LEVELS = [level for level in BENCHES if level != "confined" or not CLOSED]


@pytest.fixture(params=LEVELS)
def any_bench(request: pytest.FixtureRequest) -> Bench:
    """The same world at every level."""
    made = request.getfixturevalue(BENCHES[request.param])
    assert isinstance(made, Bench)
    return made


@pytest.fixture(params=["strict", "bwrap", "warm"])
def strict_bench(request: pytest.FixtureRequest) -> Bench:
    """The strict box, however its tasks start."""
    made = request.getfixturevalue(BENCHES[request.param])
    assert isinstance(made, Bench)
    return made


@pytest.fixture(params=[level for level in LEVELS if level != "none"])
def bench(request: pytest.FixtureRequest) -> Bench:
    """The same world in every box that is one: the suite that each has to pass."""
    made = request.getfixturevalue(BENCHES[request.param])
    assert isinstance(made, Bench)
    return made


def _bench(folder: Path, box: Box) -> Iterator[Bench]:
    runner = Runner(folder / "agent", box, "attic")
    yield Bench(folder, runner)
    runner.close()
    assert not list((folder / "agent" / "attempts").iterdir()), "an attempt left its folder behind"
