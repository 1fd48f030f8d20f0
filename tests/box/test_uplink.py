"""A task's network of its own, from the agent's side: made, proven, lost, and gone with the task. Whom it reaches is tried on
hosts: tests/network/test_uplink.py.
"""

import asyncio
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from discogrid.types import Limits, Outcome
from discogrid_agent.runner import Runner
from discogrid_agent.sandbox.box import Box
from discogrid_agent.sandbox.native import Native
from discogrid_agent.sandbox.processes import descendants
from discogrid_agent.sandbox.strict import StrictBox
from discogrid_agent.uplink import attachment, proof
from discogrid_agent.uplink.proof import prove_network
from tests.box.bench import LOOK_S, LOOKS_MAX, Bench, gone, living, stdout
from tests.box.test_killed_agent import LoneAgent
from tests.box.test_probes import PROBES, Host, host
from tests.box.warm_first import WarmFirst
from tests.network import open_router

__all__ = ["host"]

PROGRAM = "slirp4netns"
SPEAKER, ROUTER = "--exit-fd=", "uplink.router"  # in their command lines
LOOKS = """
import json, os, socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
    try:
        made.connect(("192.0.2.1", 9))
        address = made.getsockname()[0]
    except OSError as error:
        address = error.strerror
print(json.dumps([address, os.path.exists("/etc/resolv.conf")]))
"""
LOOKS_CLOSED = """
import socket
try:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
except OSError as error:
    print(error.strerror)
"""
WAITS = "import pathlib, time; pathlib.Path('run-result/begun').touch(); time.sleep(60)"


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Neither a process nor, with the last of them, a namespace."""
    before = descendants(os.getpid())
    yield
    assert descendants(os.getpid()) == before


def ours(mark: str) -> list[int]:
    """This agent's processes whose command line holds `mark`."""
    return sorted(set(living(mark)) & set(descendants(os.getpid())))


async def until(happened: Callable[[], object]) -> None:
    for _ in range(LOOKS_MAX):
        if happened():
            return
        await asyncio.sleep(LOOK_S)
    raise AssertionError("it did not happen")


async def begun(folder: Path) -> None:
    """Wait until a task that WAITS has its network, and runs."""
    await until(lambda: list(folder.glob("agent/attempts/*/*/run-result/begun")))


async def test_a_task_that_asks_has_a_network_and_the_next_one_none(online_bench: Bench) -> None:
    ended = await online_bench.run(LOOKS, network=True)
    assert ended.outcome is Outcome.SUCCEEDED, ended.reason
    assert json.loads(stdout(ended)) == ["10.0.2.100", True]
    ended = await online_bench.run("import os; print(os.path.exists('/etc/resolv.conf'))\n" + LOOKS_CLOSED)
    assert stdout(ended) == "False\nAddress family not supported by protocol\n"


async def test_with_a_network_it_still_can_do_nothing_else_that_it_must_not(
    online_bench: Bench, host: Host
) -> None:
    ended = await online_bench.run(
        PROBES.read_bytes(), input_name="in.txt", arguments=host.arguments(), network=True
    )
    assert ended.outcome is Outcome.SUCCEEDED, ended.reason
    answers: dict[str, list[bool]] = json.loads(stdout(ended))
    # To its own loopback, that is.
    assert {name for name, (done, _) in answers.items() if done} == {"send datagrams", "make IPv6 sockets"}
    assert [name for name, (_, twin) in answers.items() if not twin] == []


async def test_it_serves_itself(online_bench: Bench) -> None:
    ended = await online_bench.run(
        "import socket\n"
        "with socket.create_server(('127.0.0.1', 0)) as server:\n"
        "    with socket.create_connection(server.getsockname()): print('served')",
        network=True,
    )
    assert stdout(ended) == "served\n", ended.reason


@pytest.mark.parametrize("program", [SPEAKER, ROUTER])
async def test_a_task_whose_network_dies_ends_and_may_be_tried_again(
    online_bench: Bench, program: str
) -> None:
    running = asyncio.create_task(online_bench.runner.run(online_bench.task(WAITS, network=True)))
    await begun(online_bench.folder)
    [found] = ours(program)
    os.kill(found, signal.SIGKILL)
    ended = await running
    assert (ended.outcome, ended.retryable) == (Outcome.BOX_FAILED, True)
    assert "its network was lost" in ended.reason
    assert (await online_bench.run("print(1)", network=True)).outcome is Outcome.SUCCEEDED


async def test_a_cancelled_task_takes_its_network_along(online_bench: Bench) -> None:
    task = online_bench.task(WAITS, network=True)
    running = asyncio.create_task(online_bench.runner.run(task))
    await begun(online_bench.folder)
    assert ours(SPEAKER)
    assert ours(ROUTER)
    online_bench.runner.kill(task.attempt, "no longer wanted")
    assert (await running).outcome is Outcome.CANCELLED


async def test_a_task_cancelled_while_its_network_is_made_never_runs(online_bench: Bench) -> None:
    for moment in range(8):
        task = online_bench.task("print('ran')", network=True)
        running = asyncio.create_task(online_bench.runner.run(task))
        await asyncio.sleep(0.01 * moment)
        online_bench.runner.kill(task.attempt, "no longer wanted")
        assert (await running).outcome in {Outcome.CANCELLED, Outcome.SUCCEEDED}


async def test_a_task_that_runs_out_of_time_takes_its_network_along(online_bench: Bench) -> None:
    ended = await online_bench.run(WAITS, network=True, limits=Limits(seconds=1))
    assert ended.outcome is Outcome.LIMIT_EXCEEDED


async def test_an_agent_that_is_killed_takes_the_networks_along(
    tmp_path: Path, strict: Box, tun: None
) -> None:
    mark = f"online-{os.getpid()}"
    agent = LoneAgent(tmp_path / "a", f"MARK = '{mark}'\n{WAITS}", "online", "guarded")
    await begun(tmp_path / "a")
    started = descendants(agent.pid)
    assert set(living(SPEAKER)) & set(started)
    assert set(living(ROUTER)) & set(started)
    agent.end(agent.pid)
    assert await gone(str(tmp_path), 1)
    await until(lambda: not any(Path("/proc", str(process)).exists() for process in started))


async def test_what_starts_warm_has_no_network_and_what_needs_one_starts_cold(
    tmp_path: Path, online: StrictBox
) -> None:
    box = WarmFirst(online)
    assert not box.no_network
    (tmp_path / "warm").mkdir()
    runner = Runner(tmp_path / "warm" / "agent", box, "attic")
    bench = Bench(tmp_path / "warm", runner)
    assert json.loads(stdout(await bench.run(LOOKS, network=True)))[0] == "10.0.2.100"
    assert box.warm_starts == 0
    runner.close()


# -- the proof


@pytest.fixture
def unproven(tun: None) -> StrictBox:
    return StrictBox(Native())


@pytest.fixture
def impostor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A program that is found in slirp4netns' place, to be written; where the tasks' user can run it."""
    folder = Path(tempfile.mkdtemp(prefix="discogrid-impostor-"))
    folder.chmod(0o755)
    program = folder / PROGRAM
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    yield program
    shutil.rmtree(folder)


def test_a_machine_without_the_program_says_how_to_get_it(
    unproven: StrictBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "PROGRAM", "no-such-program")
    found = prove_network(unproven)
    assert found.reason == "it needs no-such-program, which is not on this machine"
    assert found.fix == "sudo apt-get install no-such-program"
    assert unproven.no_network == found.reason


def test_a_machine_whose_device_is_closed_says_how_to_open_it(
    unproven: StrictBox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    closed = tmp_path / "tun"
    closed.touch(mode=0)
    monkeypatch.setattr(proof, "TUN", closed)
    found = prove_network(unproven)
    assert found.reason.endswith(f"may not open {closed}")
    assert found.fix == f"sudo chmod 0666 {closed}"


def test_a_machine_without_the_device_says_how_to_get_it(
    unproven: StrictBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "TUN", Path("/dev/no-such-device"))
    found = prove_network(unproven)
    assert found.reason == "this kernel gives no /dev/no-such-device: No such file or directory"
    assert found.fix.startswith("sudo modprobe tun")


def test_a_program_that_fails_is_quoted(unproven: StrictBox, impostor: Path) -> None:
    impostor.write_text("#!/bin/sh\necho 'the tap is dry' >&2\nexit 3\n")
    found = prove_network(unproven)
    assert found.reason == "slirp4netns has ended; the tap is dry"
    assert unproven.uplink is None


def test_a_program_that_says_nothing_is_not_waited_for_for_ever(
    unproven: StrictBox, impostor: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impostor.write_text("#!/bin/sh\nexec sleep 300\n")
    monkeypatch.setattr(attachment, "ATTACH_S", 0.5)
    assert prove_network(unproven).reason == "it was not ready within 0.5 s"


def test_a_router_that_shuts_nothing_is_found_out(
    unproven: StrictBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attachment, "_START", open_router.START)
    assert prove_network(unproven).reason == "a task can reach this machine by its network"
