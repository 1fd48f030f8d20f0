"""The program that a task is started through: its loop on both machines, and its answers to what can go wrong."""

import os
import platform
import resource
import socket
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from discogrid_agent.sandbox import landlock
from discogrid_agent.sandbox.confined_program import LIMITS, confined_program, orders
from discogrid_agent.sandbox.landlock import Rules
from discogrid_agent.sandbox.launcher import Argument, At, Memory, Step, Table, knows, program
from discogrid_agent.sandbox.seccomp import filter_program
from discogrid_agent.sandbox.steps import FAILED, NOT_STARTED, STARTED, Report, reports
from discogrid_agent.sandbox.strict_program import landlock_program
from tests.skips import NO_LANDLOCK

MACHINE = platform.machine()
SYSTEM = Rules(
    read_only=tuple(map(Path, ("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache"))),
    devices=(Path("/dev/null"),),
)

STACK = 0x7000_0000
NO_SUCH_FILE, BAD_DESCRIPTOR = 2, 9


class Arm:
    """Just enough of an aarch64 to run the loop: it knows no other instruction, so that a wrong one is seen."""

    def __init__(self, file: bytes, kernel: Callable[[int, list[int]], int | None]) -> None:
        self.kernel = kernel
        self.registers = [0] * 32
        self.memory: dict[int, int] = {}
        [entry, parts_at] = struct.unpack_from("<QQ", file, 24)
        for number in range(3):
            kind, _, offset, at, _, size = struct.unpack_from("<IIQQQQ", file, parts_at + 56 * number)
            if kind == 1:
                self.write(at, file[offset : offset + size])
        self.at = entry

    def write(self, at: int, content: bytes) -> None:
        self.memory.update(enumerate(content, at))

    def read(self, at: int, size: int) -> int:
        return int.from_bytes(bytes(self.memory[at + number] for number in range(size)), "little")

    def run(self) -> None:
        while self.step(self.read(self.at, 4)):
            self.at += 4

    def step(self, word: int) -> bool:
        target, base = word & 31, word >> 5 & 31
        registers = self.registers
        match word >> 22:
            case 0x3E5:  # ldr x, [x, offset]
                registers[target] = self.read(registers[base] + (word >> 10 & 0xFFF) * 8, 8)
            case 0x3E4:  # str x, [x, offset]
                self.write(
                    registers[base] + (word >> 10 & 0xFFF) * 8, registers[target].to_bytes(8, "little")
                )
            case 0x2E4:  # str w, [x, offset]
                self.write(registers[base], (registers[target] & 0xFFFF_FFFF).to_bytes(4, "little"))
            case 0x244:  # add x, x, number
                registers[target] = (STACK if base == 31 else registers[base]) + (word >> 10 & 0xFFF)
            case 0x22C:  # add x, x, x lsl number
                registers[target] = registers[base] + (registers[word >> 16 & 31] << (word >> 10 & 63))
            case number if number >> 1 == 0x1A5:  # movz
                registers[target] = word >> 5 & 0xFFFF
            case number if number >> 1 == 0x1E5:  # movk, lsl 16
                assert word >> 21 & 3 == 1
                registers[target] |= (word >> 5 & 0xFFFF) << 16
            case _ if word == 0xD400_0001:  # svc 0
                answer = self.kernel(registers[8], registers[:6])
                if answer is None:
                    return False
                registers[0] = answer & 0xFFFF_FFFF_FFFF_FFFF
            case number if number >> 2 == 0xB7:  # tbnz, of the last bit
                assert word >> 19 & 31 == 31
                if registers[target] >> 63:
                    self.at += (word >> 5 & 0x3FFF) * 4 - 4
            case number if number >> 2 == 0xB4:  # cbz
                if registers[target] == 0:
                    self.at += (word >> 5 & 0x7FFFF) * 4 - 4
            case number if number >> 4 == 0x5:  # b, backwards
                self.at += ((word & 0x3FF_FFFF) - (1 << 26)) * 4 - 4
            case _:
                raise AssertionError(f"no instruction of the loop: {word:08x}")
        return True


def small_table() -> tuple[Table, Step, Step, At, Memory]:
    """Every way that a row can lead: an answer kept, moved, passed by; zero, positive, negative."""
    table, kept, rest = Table(), Memory(bytes(8)), Memory(bytes(8))
    end = Step("exit_group", (9,))
    execute = Step("execve", if_negative=end)
    opened = table.add("openat", -100, At(Memory(b"/dev/null\0")), 0)
    opened.answer = Argument(table.add("dup3", 77, 100, 0), 0)
    fork = table.add("clone", 17, answer=At(kept, 4))
    table.steps += [execute, end]
    fork.if_positive = table.add("wait4", -1, At(kept), 0, 0)
    table.add("exit_group", 5)
    return table, execute, end, At(rest), kept


def test_the_loop_of_an_arm_goes_where_the_table_says() -> None:
    called: list[tuple[int, list[int]]] = []
    answers = iter([3, 100, 0, -NO_SUCH_FILE, None])

    def kernel(number: int, arguments: list[int]) -> int | None:
        called.append((number, arguments))
        return next(answers)

    table, execute, end, rest, _ = small_table()
    arm = Arm(program("aarch64", table, execute, end, rest), kernel)
    stack = [3, 0x111, 0x222, 0x333, 0, 0x444, 0]  # three words, and one variable
    arm.write(STACK, struct.pack(f"<{len(stack)}Q", *stack))
    arm.run()
    assert [number for number, _ in called] == [56, 24, 220, 221, 94]
    assert called[1][1][:3] == [3, 100, 0]  # what openat answered
    assert called[3][1][:3] == [0x222, STACK + 16, STACK + 40]  # the command, from it on, and the variables
    assert called[4][1][0] == 9

    called.clear()
    answers = iter([3, 100, 4711, 4711, None])
    arm = Arm(program("aarch64", table, execute, end, rest), kernel)
    arm.write(STACK, struct.pack(f"<{len(stack)}Q", *stack))
    arm.run()
    assert [number for number, _ in called] == [56, 24, 220, 260, 94]
    kept_at = called[3][1][1]
    assert arm.read(kept_at + 4, 4) == 4711
    assert called[4][1][0] == 5


def run(file: bytes, folder: Path, *command: str, told: bytes = b"") -> tuple[int, list[Report], str]:
    """Run a launcher: its exit, its reports, what was printed."""
    path = folder / "launcher"
    path.write_bytes(file)
    path.chmod(0o700)
    (folder / "work").mkdir()
    near, far = socket.socketpair()
    with near, far:
        near.sendall(told)
        ran = subprocess.run(
            [str(path), *command],
            stdin=far.fileno(),
            cwd=folder / "work",
            capture_output=True,
            text=True,
            check=False,
        )
        far.close()
        said = b""
        while part := near.recv(4096):
            said += part
    return ran.returncode, reports(said), ran.stdout + ran.stderr


@pytest.fixture
def version() -> int:
    assert knows(MACHINE)
    found = landlock.abi()
    if found == 0:
        pytest.skip(NO_LANDLOCK)
    return found


def confined(version: int) -> bytes:
    return confined_program(MACHINE, version, SYSTEM, filter_program(MACHINE, (), shared=True))


def told(folder: Path) -> bytes:
    (folder / "tmp").mkdir()
    limits = {**dict.fromkeys(LIMITS, 1 << 30), resource.RLIMIT_NOFILE: 512}
    return orders(limits, str(folder / "tmp"))


def test_a_command_gets_its_arguments_and_no_descriptor(tmp_path: Path, version: int) -> None:
    script = 'echo "$1|$2"; cat; ls /proc/self/fd'
    code, said, printed = run(
        landlock_program(MACHINE, version), tmp_path, "/bin/sh", "-c", script, "sh", "a b", ""
    )
    assert (code, said) == (0, [])
    assert printed.split("\n") == ["a b|", "0", "1", "2", "3", ""]  # 3 reads this very folder


def test_a_command_that_is_not_there_is_reported(tmp_path: Path, version: int) -> None:
    code, said, printed = run(landlock_program(MACHINE, version), tmp_path, "/no/such/program")
    assert (code, said, printed) == (127, [Report(NOT_STARTED, -NO_SUCH_FILE)], "")


def test_a_restriction_that_fails_ends_the_launcher(tmp_path: Path, version: int) -> None:
    broken = landlock_program(MACHINE, version).replace(
        landlock.attributes(version, network=False), b"\xff" * 24
    )
    code, [said], printed = run(broken, tmp_path, "/bin/echo", "unrestricted")
    assert (code, said.process, printed) == (127, FAILED, "")


def test_the_parent_of_a_task_tells_of_every_end_below_it(tmp_path: Path, version: int) -> None:
    script = "(sleep 0.1; exit 7) & echo $$; exit 3"
    code, said, printed = run(confined(version), tmp_path, "/bin/sh", "-c", script, told=told(tmp_path))
    first = int(printed)
    assert code == 0
    assert said[0] == Report(STARTED, first)
    assert said[1] == Report(first, 3 << 8)
    assert [report.answer for report in said[2:]] == [7 << 8]


def test_a_confined_command_that_is_not_there_is_reported(tmp_path: Path, version: int) -> None:
    code, said, _ = run(confined(version), tmp_path, "./nothing", told=told(tmp_path))
    assert code == 0
    assert Report(NOT_STARTED, -NO_SUCH_FILE) in said


def test_a_parent_that_nobody_listens_to_ends(tmp_path: Path, version: int) -> None:
    path = tmp_path / "launcher"
    path.write_bytes(confined(version))
    path.chmod(0o700)
    with open("/dev/null", "rb") as null:
        ran = subprocess.run([path, "/bin/true"], stdin=null, check=False, timeout=10)
    assert ran.returncode in (0, 127)


def test_the_task_sees_its_two_folders_and_the_system(tmp_path: Path, version: int) -> None:
    (tmp_path / "secret").write_text("hush")
    script = "echo x > a && cat a; cat ../secret; echo y > ../tmp/b && cat ../tmp/b; ls /; ulimit -n"
    _, _, printed = run(confined(version), tmp_path, "/bin/sh", "-c", script, told=told(tmp_path))
    lines = printed.splitlines()
    assert lines[:2] == ["x", "y"]
    assert "512" in lines
    assert sum("Permission denied" in line for line in lines) == 2
    assert "hush" not in printed


def test_code_cannot_be_written_and_data_cannot_be_run(version: int) -> None:
    file = landlock_program(MACHINE, version)
    flags = [struct.unpack_from("<II", file, 64 + 56 * number) for number in range(3)]
    assert flags == [(1, 5), (1, 6), (0x6474E551, 6)]
    assert os.sysconf("SC_PAGE_SIZE") <= 0x1_0000
