"""`invite`, `join` and `agent --join` as their users type them: two homes, one code, real processes."""

import asyncio
import os
import signal
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from discogrid.keys import new_identity
from discogrid.pairing.codes import parse_target
from discogrid.pairing.frames import Opening, decode, encode
from discogrid.pairing.handshake import Confirmed, FrameArrived, Joiner, LineOpened, Party, Send
from discogrid.pairing.spake import ENTROPY_BYTES, Exchange, Side
from tests.grid.machines import Machine, until
from tests.pairing.proxy import between


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Machine]:
    with closing(Machine(tmp_path / "guest")) as machine:
        yield machine


class Invitation:
    """`discogrid invite` beside a test: the code it shows, and how it ends."""

    def __init__(self, machine: Machine, *options: str) -> None:
        self._log = machine.work / "invite.log"
        with self._log.open("wb") as said:
            self._process = subprocess.Popen(
                machine.command("invite", "--listen", "127.0.0.1:0", *options),
                cwd=machine.work,
                env=machine.environment,
                stdout=subprocess.PIPE,
                stderr=said,
            )
        machine.processes.append(self._process)
        assert self._process.stdout is not None
        self.secret = self._process.stdout.readline().decode().strip()

    @property
    def said(self) -> str:
        return self._log.read_text()

    @property
    def code(self) -> str:
        """The code with the address that follows it where multicast does not pass."""
        return until(
            lambda: next((w for w in self.said.split() if w.startswith(f"{self.secret}@")), "")
        ).rstrip(".")

    def withdrawn(self) -> int:
        """Ctrl-C in its terminal."""
        self._process.send_signal(signal.SIGINT)
        return self.ended()

    def ended(self) -> int:
        code = self._process.wait(30)
        assert self._process.stdout is not None
        self._process.stdout.close()
        return code


def test_a_laptop_joins_by_a_code_and_submits(machine: Machine, guest: Machine) -> None:
    machine.coordinate()
    machine.lend()
    invitation = Invitation(machine)
    joined = guest.run("join", invitation.code, "--name", "laptop")
    assert joined.returncode == 0, joined.stderr
    assert invitation.ended() == 0
    assert "laptop has joined as submitter" in invitation.said
    guest.write("hello.py", "open('run-result/hello', 'w').write('from the grid')")
    done = guest.run("submit", "hello.py", "-o", "got")
    assert done.returncode == 0, done.stderr
    assert (guest.work / "got" / "output" / "hello").read_text() == "from the grid"


def test_a_spare_machine_joins_by_a_code_and_works_again_after_a_reboot_without_it(
    machine: Machine, guest: Machine
) -> None:
    machine.coordinate()
    invitation = Invitation(machine)
    lent = guest.start("agent", "--join", invitation.code, "--name", "cellar", "--slots", "1")
    until(machine.live_agents)
    assert invitation.ended() == 0
    lent.terminate()
    lent.wait()
    guest.start("agent", "--name", "cellar", "--slots", "1")
    until(lambda: machine.live_agents() == ["cellar"])
    machine.write("hello.py", "print('hello')")
    assert machine.run("submit", "hello.py").returncode == 0


def test_a_token_joins_machines_that_nobody_sits_at_and_may_stay_in_their_service(
    machine: Machine, guest: Machine
) -> None:
    machine.coordinate()
    invitation = Invitation(machine, "--token")
    token = guest.write("token", invitation.secret + "\n")
    for _ in range(2):  # the second time it is a member, and the token is used up
        lent = guest.start("agent", "--token-file", str(token), "--name", "cellar", "--slots", "1")
        until(lambda: machine.live_agents() == ["cellar"])
        lent.terminate()
        lent.wait()
        until(lambda: not machine.live_agents())
    assert invitation.ended() == 0


def test_a_banned_machine_comes_back_by_a_new_token_and_not_by_the_one_it_still_has(
    machine: Machine, guest: Machine
) -> None:
    machine.coordinate()
    first = Invitation(machine, "--token", "--uses", "9")
    token = guest.write("token", first.secret + "\n")
    agent = ("agent", "--token-file", str(token), "--name", "cellar", "--slots", "1")
    lent = guest.start(*agent)
    until(lambda: machine.live_agents() == ["cellar"])
    assert machine.run("agents", "ban", "cellar").returncode == 0
    lent.wait(30)

    guest.run(*agent)  # as its service does, which starts it again
    assert "cellar was put out of the grid while this invitation was open" in first.said
    assert machine.live_agents() == []

    assert first.withdrawn() == 130
    second = Invitation(machine, "--token")
    guest.write("token", second.secret + "\n")
    guest.start(*agent)
    until(lambda: machine.live_agents() == ["cellar"])
    assert second.ended() == 0


def test_an_invitation_ends_with_the_reason_when_it_let_nobody_in(machine: Machine, guest: Machine) -> None:
    coordinator = machine.coordinate()
    invitation = Invitation(machine)
    code = invitation.code
    coordinator.terminate()
    coordinator.wait()
    joined = guest.run("join", code, "--name", "laptop")
    assert joined.returncode == 7
    assert "could not let this machine in" in joined.stderr
    assert invitation.ended() == 3
    assert "laptop was not let in" in invitation.said


def test_a_machine_that_is_lost_after_it_proved_the_code_is_not_called_joined(machine: Machine) -> None:
    machine.coordinate()
    invitation = Invitation(machine)
    target = parse_target(invitation.code)
    assert target.address is not None
    party = Party(new_identity().public, b"s" * 32, os.urandom(ENTROPY_BYTES))
    joiner = Joiner(target.code.nameplate, target.code.password, party, 0.0)
    with socket.create_connection((target.address.host, target.address.port)) as line:
        told = joiner.handle(LineOpened(), 0.0)
        while not any(isinstance(action, Confirmed) for action in told):
            for action in told:
                if isinstance(action, Send):
                    line.sendall(struct.pack(">I", len(action.raw)) + action.raw)
            (size,) = struct.unpack(">I", line.recv(4, socket.MSG_WAITALL))
            told = joiner.handle(FrameArrived(line.recv(size, socket.MSG_WAITALL)), 0.0)
    assert invitation.ended() == 7
    assert "nobody joined, and the code is used" in invitation.said


def test_a_wrong_code_is_burnt_and_both_terminals_say_so(machine: Machine, guest: Machine) -> None:
    machine.coordinate()
    invitation = Invitation(machine)
    number, _, where = invitation.code.partition("-")
    wrong = f"{number}-crater-mango@{where.partition('@')[2]}"
    if invitation.secret.endswith("-crater-mango"):
        wrong = wrong.replace("crater", "igloo")
    joined = guest.run("join", wrong)
    assert joined.returncode == 7
    assert "burnt" in joined.stderr
    assert invitation.ended() == 7
    assert "did not know the secret; the code is burnt" in invitation.said
    assert guest.run("join", invitation.code).returncode == 3  # nobody listens any more


@pytest.mark.parametrize("hostile", [False, True], ids=["a mere wire", "a man in the middle"])
async def test_who_is_in_the_middle_is_told_of_on_both_terminals(
    machine: Machine, guest: Machine, *, hostile: bool
) -> None:
    def change(joiner: bool, number: int, frame: bytes) -> bytes:
        if not (hostile and joiner and number == 0):
            return frame
        opening = decode(frame)
        assert isinstance(opening, Opening)
        own = Exchange(Side.JOINER, b"code 1-crater-mango", os.urandom(ENTROPY_BYTES)).share
        return encode(Opening(version=1, nameplate=opening.nameplate, pledge=opening.pledge, share=own))

    machine.coordinate()
    invitation = Invitation(machine)
    target = parse_target(invitation.code)
    assert target.address is not None
    async with between(target.address, change) as middle:
        joined = await asyncio.to_thread(guest.run, "join", f"{target.code}@{middle}")
    if hostile:
        assert (joined.returncode, invitation.ended()) == (7, 7)
        assert "burnt" in joined.stderr
        assert "did not know the secret; the code is burnt" in invitation.said
    else:
        assert (joined.returncode, invitation.ended()) == (0, 0)


def test_an_invitation_without_a_coordinator_in_reach_shows_no_code(machine: Machine) -> None:
    coordinator = machine.coordinate()
    coordinator.terminate()
    coordinator.wait()
    done = machine.run("invite")
    assert (done.returncode, done.stdout) == (3, "")


def test_a_machine_without_a_grid_says_how_to_get_into_one(guest: Machine) -> None:
    invited = guest.run("invite")
    assert invited.returncode == 3
    assert "discogrid up" in invited.stderr
    lent = subprocess.run(
        guest.command("agent"),
        env=guest.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    assert lent.returncode == 3
    assert b"agent --join CODE" in lent.stderr


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("four-crater-mango", "is no code"),
        ("4-crater", "is no code"),
        ("4-crater-mangoo", "Did you mean mango"),
        ("4-crater-mango@", "is no address"),
    ],
)
def test_a_code_that_cannot_be_one_is_told_before_anything_is_sent(
    guest: Machine, typed: str, said: str
) -> None:
    done = guest.run("join", typed)
    assert done.returncode == 2
    assert said in done.stderr


def test_a_damaged_token_is_told(guest: Machine) -> None:
    token = guest.write("token", "discogrid-token-abc")
    done = guest.run("join", "--token-file", token)
    assert done.returncode == 2
    assert "is no token" in done.stderr
