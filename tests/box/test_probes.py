"""What a task cannot do. Every probe has a harmless twin that must work, and must succeed outside of a box."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from discogrid.types import Outcome, SandboxLevel
from discogrid_agent.sandbox import strict_program
from discogrid_agent.sandbox.box import Box
from discogrid_agent.sandbox.bubblewrap import Bubblewrap
from discogrid_agent.sandbox.native import Native
from discogrid_agent.sandbox.probe import best_box, box_of, first_broken, try_box
from discogrid_agent.sandbox.strict import StrictBox
from tests.box.bench import Bench, stdout

PROBES = Path(__file__).with_name("probes.py")
NAMES = [
    line.split('"')[1]
    for line in PROBES.read_text().partition("TRIED")[2].splitlines()
    if line.startswith('    "')
]
# What this machine refuses to anybody, or what only root may do: there the probe cannot show that it would notice.
NEED_NOT_WORK_OUTSIDE = {
    "read passwords",
    "write into /usr",
    "write into /",
    "write into /etc",
    "write into /dev",
    "write into its Python",
    "write kernel settings",
    "see the owner's users",
    "connect by multipath TCP",
    "make IPv6 sockets",
    "make raw sockets",
    "make vsock sockets",
    "make crypto sockets",
    "read the agent's variables",
    "see where the owner keeps things",
    "use a terminal",
    "type into a terminal",
    "have capabilities",
    "use keyrings",
    "make user namespaces",
    "make network namespaces",
    "clone into namespaces",
    "mount",
    "change its root",
    "watch performance counters",
    "load kernel programs",
    "use io_uring",
    "use secret memory",
    "read the kernel's log",
    "see devices",
}


class Host:
    """What a task would find on the machine of a careless owner."""

    def __init__(self, folder: Path) -> None:
        self.secret = folder / "home" / "secret"
        self.secret.parent.mkdir()
        self.secret.write_text("hush")
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.unix = socket.socket(socket.AF_UNIX)
        self.unix.bind(str(folder / "home" / "socket"))
        self.unix.listen()
        self.abstract = socket.socket(socket.AF_UNIX)
        self.abstract.bind(f"\0discogrid-{os.getpid()}")
        self.abstract.listen()
        self.leaking, self.other_end = os.pipe()
        os.set_inheritable(self.leaking, True)

    def arguments(self) -> tuple[str, ...]:
        kinds = ("pid", "net", "mnt", "ipc", "uts", "user", "cgroup")
        namespaces = {kind: os.readlink(f"/proc/self/ns/{kind}") for kind in kinds}
        return (
            str(self.secret),
            str(self.tcp.getsockname()[1]),
            str(self.secret.with_name("socket")),
            f"discogrid-{os.getpid()}",
            str(os.getpid()),
            json.dumps(namespaces),
        )

    def close(self) -> None:
        for one in (self.tcp, self.unix, self.abstract):
            one.close()
        os.close(self.leaking)
        os.close(self.other_end)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setenv("OWNERS_SECRET", "hush")
    made = Host(tmp_path)
    yield made
    made.close()


async def test_a_strict_task_can_do_nothing_that_it_must_not(strict_bench: Bench, host: Host) -> None:
    ended = await strict_bench.run(PROBES.read_bytes(), input_name="in.txt", arguments=host.arguments())
    assert ended.outcome is Outcome.SUCCEEDED, ended.reason
    answers: dict[str, list[bool]] = json.loads(stdout(ended))
    assert list(answers) == NAMES
    assert [name for name, (done, _) in answers.items() if done] == []
    assert [name for name, (_, twin) in answers.items() if not twin] == []


def test_the_same_probes_notice_a_machine_without_a_box(tmp_path: Path, host: Host) -> None:
    (tmp_path / "run-result").mkdir()
    (tmp_path / "in.txt").write_text("x")
    ran = subprocess.run(
        [sys.executable, PROBES, "in.txt", *host.arguments()],
        cwd=tmp_path,
        capture_output=True,
        check=True,
        close_fds=False,
    )
    answers: dict[str, list[bool]] = json.loads(ran.stdout)
    assert {name for name, (done, _) in answers.items() if not done} <= NEED_NOT_WORK_OUTSIDE


def test_the_agents_own_probe_passes_in_the_strict_box(strict: Box) -> None:
    assert try_box(strict) is None


def test_the_agents_own_probe_fails_without_a_box() -> None:
    assert try_box(box_of(SandboxLevel.NONE)) == "a task can read files of this machine's owner"


@pytest.mark.parametrize(
    ("said", "broken"),
    [
        ("", "the probe said ''"),
        ("{}", "the probe said nothing"),
        ("[1]", "the probe said '[1]'"),
        ('{"fly": [true, true], "dig": [false, true]}', "a task can dig"),
        ('{"fly": [true, false]}', "whether a task can fly could not be told: its harmless twin failed"),
        ('{"fly": [true, true]}', None),
    ],
)
def test_a_probe_that_says_too_little_is_a_broken_box(said: str, broken: str | None) -> None:
    assert first_broken(said) == broken


def test_a_machine_whose_bwrap_fails_gets_no_box_and_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "a" / "b" / "bwrap"
    fake.parent.mkdir(parents=True)
    fake.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    for path in (tmp_path, fake):
        path.chmod(0o755)
    monkeypatch.setattr("discogrid_agent.sandbox.probe.ways", lambda: [Bubblewrap(fake)])
    probed = best_box()
    assert probed.box.level is not SandboxLevel.STRICT
    assert "No permissions to create new namespace" in probed.reason
    assert probed.fix


def test_a_machine_that_refuses_namespaces_gets_no_box_and_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("discogrid_agent.sandbox.probe.ways", lambda: [Native()])
    assert best_box().box.level is SandboxLevel.STRICT
    thread = 0x1_0000  # a clone that no kernel makes with new namespaces
    monkeypatch.setattr(strict_program, "_NEW_ALL", thread)
    probed = best_box()
    assert probed.box.level is not SandboxLevel.STRICT
    assert "without bwrap: the kernel does not let it build the box: Invalid argument" in probed.reason
    assert probed.fix


def test_a_machine_that_lets_only_bwrap_make_namespaces_has_a_strict_box(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(strict_program, "_NEW_ALL", 0x1_0000)
    box = best_box().box
    assert isinstance(box, StrictBox)
    assert box.way.name.endswith("bwrap")
    assert "without bwrap" not in box.way.name
