"""`discogrid trust` and `agents ban` as users type them, on two homes of which one has joined the other's grid."""

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from discogrid.client import AsyncClient
from discogrid.grid import OWN, adopt_grid, open_grid
from discogrid.trust.owner import member_of
from discogrid.types import Role
from tests.grid.machines import Machine, until

PASSPHRASE = "four quiet random words"
COPY = "import sys, shutil; shutil.copy(sys.argv[1], 'run-result')"
WAIT = "import time; time.sleep(600)"


@contextmanager
def at_home(machine: Machine) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISCOGRID_HOME", str(machine.home))
        yield


def let_in(owner: Machine, guest: Machine, *roles: Role) -> str:
    """What joining by a code comes to; the name of the owner's grid on the guest's machine."""
    with at_home(guest):
        statement = open_grid(OWN).identity.statement()
    with at_home(owner):
        grid, now = open_grid("home"), time.time()
        holder = grid.owner()
        assert holder is not None
        newer = holder.admit(grid.roster, member_of(statement, "guest", roles), now)
        grid.keeper.offer(newer.envelope, now)

        async def publish() -> None:
            async with AsyncClient(grid) as client:
                await client.publish(newer.envelope)

        asyncio.run(publish())
    with at_home(guest):
        return adopt_grid(holder.public, newer.envelope, grid.endpoint, now).name


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Machine]:
    with closing(Machine(tmp_path / "guest")) as machine:
        yield machine


def members(machine: Machine, *flags: str) -> dict[str, Any]:
    return {member["name"]: member for member in machine.document("trust", "ls", *flags)["members"]}


def passphrase(machine: Machine) -> tuple[str, Path]:
    return "--passphrase-file", machine.write("passphrase", PASSPHRASE + "\n")


def test_a_banned_agent_ends_with_the_reason_and_its_task_runs_elsewhere(
    machine: Machine, guest: Machine
) -> None:
    machine.coordinate()
    joined = let_in(machine, guest, Role.AGENT)
    lent = guest.start("agent", "--grid", joined, "--slots", "1")
    until(machine.live_agents)
    machine.write(
        "wait.py", "import os, time; time.sleep(600 if os.environ['DISCOGRID_ATTEMPT'] == '1' else 0)"
    )
    job = machine.run("submit", "-d", "wait.py").stdout.strip()
    until(lambda: machine.document("show", job).get("counts", {}).get("running"))

    done = machine.run("agents", "ban", "guest")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert lent.wait(15) != 0
    assert "put out of the grid" in (guest.work.parent / "agent.log").read_text()
    again = guest.run("agent", "--grid", joined)  # it knows, also where nobody lets it in any more
    assert again.returncode == 3
    assert "put out of the grid" in again.stderr
    machine.lend(1)
    assert machine.run("wait", job).returncode == 0
    assert "guest" not in members(machine)
    assert machine.document("trust", "ls")["revoked"][0]["name"] == "guest"


def test_who_only_submits_cannot_lend_and_is_told_so(machine: Machine, guest: Machine) -> None:
    machine.coordinate()
    machine.lend()
    joined = let_in(machine, guest, Role.SUBMITTER)
    guest.write("double.py", COPY)
    guest.write("in.txt", "content")
    done = guest.run("submit", "double.py", "in.txt", "-o", "got")
    assert done.returncode == 0, done.stderr
    assert (guest.work / "got" / "output" / "in.txt").read_text() == "content"
    refused = guest.run("agent", "--grid", joined)
    assert refused.returncode == 3
    assert "no agent of the grid" in refused.stderr


def test_the_owner_s_key_comes_back_from_its_backup_and_only_with_the_passphrase(
    machine: Machine, guest: Machine
) -> None:
    machine.coordinate()
    done = machine.run("trust", "backup", "home.backup", *passphrase(machine))
    assert done.returncode == 0, done.stderr
    backup = machine.work / "home.backup"
    wrong = guest.write("wrong", "another passphrase")
    refused = guest.run("trust", "restore", backup, "--passphrase-file", wrong)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "passphrase" in refused.stderr

    restored = guest.run("trust", "restore", backup, *passphrase(guest))
    assert restored.returncode == 0, restored.stderr
    assert guest.document("trust", "ls", "--grid", "home")["owner_key_here"]
    assert guest.document("trust", "ls", "--grid", "home")["id"] == machine.document("trust", "ls")["id"]


def test_a_machine_that_is_restored_from_the_backup_takes_the_coordinator_s_place(
    machine: Machine, guest: Machine, tmp_path: Path
) -> None:
    coordinator = machine.coordinate()
    with closing(Machine(tmp_path / "third")) as member:
        joined = let_in(machine, member, Role.AGENT)
        machine.run("trust", "backup", "home.backup", *passphrase(machine))
        machine.run("trust", "renew")  # what the backup does not know
        coordinator.terminate()
        coordinator.wait()
        assert guest.run("trust", "restore", machine.work / "home.backup", *passphrase(guest)).returncode == 0
        guest.coordinate()
        where = json.loads(guest.address.read_text())["endpoint"]
        member.start("agent", "--grid", joined, "--coordinator", where.removeprefix("tcp://"))
        until(guest.live_agents)
        assert guest.document("trust", "ls")["version"] > machine.document("trust", "ls")["version"]


def test_the_owner_s_key_moves_to_another_machine(machine: Machine, guest: Machine) -> None:
    machine.coordinate()
    joined = let_in(machine, guest, Role.SUBMITTER, Role.ADMIN)
    assert machine.run("trust", "move", "home.key", *passphrase(machine)).returncode == 0
    assert not machine.document("trust", "ls")["owner_key_here"]
    refused = machine.run("trust", "renew")
    assert refused.returncode == 2
    assert "not on this machine" in refused.stderr

    restored = guest.run("trust", "restore", machine.work / "home.key", *passphrase(guest))
    assert restored.returncode == 0, restored.stderr
    before = guest.document("trust", "ls", "--grid", joined)["version"]
    assert guest.run("trust", "renew", "--grid", joined).returncode == 0
    assert guest.document("trust", "ls", "--grid", joined)["version"] == before + 1
    # The coordinator goes by it: its own user's next command hears of it.
    assert machine.run("ls").returncode == 0
    assert machine.document("trust", "ls")["version"] == before + 1


def test_a_member_s_roles_and_quotas_are_changed_at_once(machine: Machine, guest: Machine) -> None:
    machine.coordinate()
    machine.lend()
    let_in(machine, guest, Role.SUBMITTER)
    guest.write("wait.py", WAIT)
    assert guest.run("submit", "-d", "wait.py").returncode == 0
    done = machine.run("trust", "set", "guest", "--jobs", "1", "--input", "1G")
    assert done.returncode == 0, done.stderr
    assert members(machine)["guest"]["quotas"]["jobs_open"] == 1
    weighed = machine.run("trust", "set", "guest", "--weight", "3")
    assert "weight 3" in weighed.stderr + weighed.stdout
    assert members(machine)["guest"]["quotas"]["weight"] == 3
    assert machine.run("trust", "set", "guest", "--weight", "0").returncode == 2
    over = guest.run("submit", "-d", "wait.py")
    assert over.returncode == 3
    assert "1 jobs of yours are open" in over.stderr
    assert machine.run("trust", "set", "guest", "--role", "agent").returncode == 0
    refused = guest.run("ls")
    assert refused.returncode == 3
    assert "no submitter of the grid" in refused.stderr


def test_a_member_rotates_its_keys_and_works_on(machine: Machine, guest: Machine) -> None:
    machine.coordinate()
    machine.lend()
    joined = let_in(machine, guest, Role.SUBMITTER)
    before = members(machine)["guest"]["node"]
    done = guest.run("trust", "rotate", "--grid", joined)
    assert done.returncode == 0, done.stderr
    assert members(machine)["guest"]["node"] != before
    assert guest.run("ls").returncode == 0
    refused = machine.run("trust", "rotate")
    assert refused.returncode == 2
    assert "coordinates" in refused.stderr


def test_a_change_that_the_coordinator_cannot_hear_is_kept_and_said(machine: Machine, guest: Machine) -> None:
    coordinator = machine.coordinate()
    let_in(machine, guest, Role.AGENT)
    coordinator.terminate()
    coordinator.wait()
    done = machine.run("trust", "rm", "guest")
    assert done.returncode == 3
    assert "do not know yet" in done.stderr
    assert "guest" not in members(machine)


@pytest.mark.parametrize("name", ["nobody", "guest-", "aaaaaaaa-bb"])
def test_a_member_that_is_none_is_named(machine: Machine, name: str) -> None:
    machine.coordinate()
    done = machine.run("trust", "rm", name)
    assert done.returncode == 2
    assert f"no member {name!r}" in done.stderr


def test_two_holders_of_the_owner_s_key_lose_none_of_each_other_s_changes(
    machine: Machine, guest: Machine
) -> None:
    machine.coordinate()
    joined = let_in(machine, guest, Role.SUBMITTER, Role.ADMIN)
    assert machine.run("trust", "move", "home.move", *passphrase(machine)).returncode == 0
    moved = machine.work / "home.move"
    assert guest.run("trust", "restore", moved, *passphrase(guest)).returncode == 0
    changed = guest.run("trust", "set", "guest", "--input", "3G", "--grid", joined)
    assert changed.returncode == 0, changed.stderr
    assert machine.run("trust", "restore", moved, *passphrase(machine)).returncode == 0
    for turn, each, flags in ((1, machine, ()), (2, guest, ("--grid", joined)), (3, machine, ())):
        done = each.run(
            "trust", "set", "guest", "--tasks", str(turn), *(("--jobs", "7") if turn == 1 else ()), *flags
        )
        assert done.returncode == 0, done.stderr
    quotas = members(machine)["guest"]["quotas"]
    assert (quotas["tasks_open"], quotas["jobs_open"], quotas["input_bytes"]) == (3, 7, 3 << 30)
