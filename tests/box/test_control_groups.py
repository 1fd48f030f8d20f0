"""Limits of the kernel on a box as a whole, in a folder that looks like a delegated group: the files are what counts."""

import asyncio
import errno
import os
import signal
from pathlib import Path

import pytest

from discogrid.types import GIB, Limits, Outcome, SandboxLevel
from discogrid_agent.runner import Runner
from discogrid_agent.sandbox.box import BoxEnd
from discogrid_agent.sandbox.bubblewrap import Bubblewrap, find_bubblewrap
from discogrid_agent.sandbox.control_groups import ControlGroups, Group
from discogrid_agent.sandbox.native import Native
from discogrid_agent.sandbox.probe import best_box
from discogrid_agent.sandbox.strict import StrictBox
from discogrid_agent.verdict import Limit, judge
from tests.box.bench import LOOK_S, LOOKS_MAX, Bench
from tests.box.warm_first import WarmFirst


class Delegated:
    """A group of version 2 as systemd delegates it."""

    def __init__(self, folder: Path, controllers: str = "cpu memory pids") -> None:
        self.own = folder / "hierarchy" / "user.slice" / "agent.service"
        self.own.mkdir(parents=True)
        (self.own / "cgroup.controllers").write_text(controllers)
        (self.own / "cgroup.subtree_control").touch()
        self.mounts = folder / "mountinfo"
        self.mounts.write_text(
            "22 28 0:21 / /proc rw - proc proc rw\n"
            f"31 28 0:26 / {folder / 'hierarchy'} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
        )
        self.cgroup = folder / "cgroup"
        self.cgroup.write_text("1:name=systemd:/else\n0::/user.slice/agent.service\n")

    def shown_from(self, root: str, point: Path) -> None:
        """As in a container, which sees a part of the hierarchy."""
        self.mounts.write_text(
            f"31 28 0:26 {root} {str(point).replace(' ', chr(92) + '040')} rw - cgroup2 cgroup2 rw\n"
        )

    def find(self) -> ControlGroups | None:
        return ControlGroups.find(self.mounts, self.cgroup)


def test_an_agent_moves_beside_its_boxes_and_asks_for_the_limits(tmp_path: Path) -> None:
    delegated = Delegated(tmp_path)
    assert delegated.find() is not None
    assert (delegated.own / "discogrid-agent" / "cgroup.procs").read_text() == str(os.getpid())
    assert (delegated.own / "cgroup.subtree_control").read_text() == "+memory +pids"


def test_an_agent_that_may_not_have_the_limits_stays_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delegated = Delegated(tmp_path)
    write = Path.write_text

    def busy(path: Path, text: str) -> int:
        if path.name == "cgroup.subtree_control":
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        return write(path, text)

    monkeypatch.setattr(Path, "write_text", busy)
    assert delegated.find() is None
    assert (delegated.own / "cgroup.procs").read_text() == str(os.getpid())


def test_a_probe_alone_moves_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ControlGroups, "find", lambda *_: pytest.fail("it moves the process"))
    probed = best_box()
    assert probed.box.level is not SandboxLevel.NONE, probed.reason


def test_a_mount_that_shows_a_part_of_the_hierarchy(tmp_path: Path) -> None:
    delegated = Delegated(tmp_path)
    (tmp_path / "a part").symlink_to(delegated.own.parent)
    delegated.shown_from("/user.slice", tmp_path / "a part")
    assert delegated.find() is not None
    assert (delegated.own / "discogrid-agent" / "cgroup.procs").exists()


@pytest.mark.parametrize("root", ["/system.slice", "/user.slice/agent", "/.."])
def test_a_group_that_no_mount_shows_is_not_found(tmp_path: Path, root: str) -> None:
    delegated = Delegated(tmp_path)
    delegated.shown_from(root, delegated.own.parent)
    assert delegated.find() is None
    assert not (delegated.own / "discogrid-agent").exists()


@pytest.mark.parametrize("lacking", ["cpu memory", "", "pids"])
def test_without_the_controllers_there_are_no_groups(tmp_path: Path, lacking: str) -> None:
    delegated = Delegated(tmp_path, lacking)
    assert delegated.find() is None
    assert not (delegated.own / "discogrid-agent").exists()


def test_a_machine_without_version_2_or_without_leave_has_none(tmp_path: Path) -> None:
    delegated = Delegated(tmp_path)
    (delegated.own / "cgroup.subtree_control").unlink()
    assert delegated.find() is None
    delegated.cgroup.write_text("1:name=systemd:/else\n")
    assert delegated.find() is None
    assert ControlGroups.find(tmp_path / "gone", tmp_path / "gone") is None


def test_a_box_gets_a_group_with_its_limits_and_gives_it_back(tmp_path: Path) -> None:
    groups = Delegated(tmp_path).find()
    assert groups is not None
    group = groups.make(Limits(memory_bytes=GIB, processes=10))
    assert group is not None
    assert int((group.folder / "memory.max").read_text()) > GIB
    assert int((group.folder / "pids.max").read_text()) > 10
    group.take(4711)
    assert (group.folder / "cgroup.procs").read_text() == "4711"
    for file in group.folder.iterdir():  # in the kernel's own file system they go with the folder
        file.unlink()
    group.remove()
    assert not group.folder.exists()


def test_what_the_kernel_ends_for_want_of_memory_is_told_as_that_limit(tmp_path: Path) -> None:
    (tmp_path / "memory.events").write_text("low 0\nmax 12\noom 1\noom_kill 1\n")
    assert Group(tmp_path).ran_out()
    end = BoxEnd(ran=True, exit=-9, seconds=1.0, ran_out=True)
    assert judge(end, None, b"", None, Limits()).limit is Limit.MEMORY
    (tmp_path / "memory.events").write_text("low 0\nmax 12\noom 0\noom_kill 0\n")
    assert not Group(tmp_path).ran_out()
    assert judge(BoxEnd(ran=True, exit=-9, seconds=1.0), None, b"", None, Limits()).limit is None
    assert not Group(tmp_path / "gone").ran_out()


@pytest.mark.parametrize("start", ["native", "bwrap", "warm"])
async def test_a_box_that_the_kernel_ends_as_a_whole_has_hit_its_limit(tmp_path: Path, start: str) -> None:
    """Also its process 1, which would have told how the task ended."""
    (tmp_path / "groups").mkdir()
    way = Bubblewrap(find_bubblewrap()[0]) if start == "bwrap" else Native()
    cold = StrictBox(way, ControlGroups(tmp_path / "groups"))
    runner = Runner(tmp_path / "agent", WarmFirst(cold) if start == "warm" else cold, "attic")
    name = f"whole-{os.getpid()}-{start}.py"
    bench = Bench(tmp_path, runner)
    task = bench.task("import time; time.sleep(60)", name=name, limits=Limits(memory_bytes=GIB))
    running = asyncio.ensure_future(runner.run(task))
    [group] = await groups_in(tmp_path / "groups")
    (group / "memory.events").write_text("oom_kill 1\n")
    os.kill(int((group / "cgroup.procs").read_text()), signal.SIGKILL)
    ended = await running
    runner.close()
    assert (ended.outcome, ended.limit_exceeded) == (Outcome.LIMIT_EXCEEDED, Limit.MEMORY), ended.reason


async def groups_in(folder: Path) -> list[Path]:
    """Those that a process was put into."""
    for _ in range(LOOKS_MAX):
        if found := taken(folder):
            return found
        await asyncio.sleep(LOOK_S)
    raise AssertionError("no box has a group")


def taken(folder: Path) -> list[Path]:
    return [path.parent for path in folder.glob("box-*/cgroup.procs")]
