"""The parts of a run by themselves: keeping logs, judging, collecting, removing, naming, laying out."""

import os
import platform
import signal
import socket
import struct
from pathlib import Path

import pytest

from discogrid.archive import ArchiveWriter
from discogrid.errors import InputError, SandboxError, UsageError
from discogrid.mounts import check_mount_target, check_mount_targets
from discogrid.types import Limits, Outcome, SandboxLevel
from discogrid_agent.collector import Collected, collect, is_small
from discogrid_agent.log_keeper import LogKeeper
from discogrid_agent.removal import remove_tree
from discogrid_agent.runner import Runner
from discogrid_agent.sandbox.box import Box, BoxEnd
from discogrid_agent.sandbox.interpreter import own_interpreter
from discogrid_agent.sandbox.probe import box_of
from discogrid_agent.sandbox.seccomp import filter_program, knows
from discogrid_agent.sandbox.system_files import PROGRAMS, make_system_files
from discogrid_agent.usage import disk_usage
from discogrid_agent.verdict import Cancelled, Exceeded, Limit, judge, last_lines
from discogrid_agent.work_folder import Placed, WorkFolder

# -- logs


@pytest.mark.parametrize("size", [1, 3, 7, 64, 1000])
def test_a_short_log_is_kept_whole(size: int) -> None:
    keeper = LogKeeper(20)
    text = b"0123456789abcdefghij"
    for at in range(0, len(text), size):
        keeper.add(text[at : at + size])
    assert keeper.kept() == text
    assert keeper.tail(3) == b"hij"
    assert keeper.tail(100) == text
    assert keeper.total == 20


@pytest.mark.parametrize("size", [1, 3, 7, 64, 1000])
def test_a_long_log_keeps_head_and_tail(size: int) -> None:
    keeper = LogKeeper(10)
    text = b"".join(b"%05d" % number for number in range(1000))
    for at in range(0, len(text), size):
        keeper.add(text[at : at + size])
    assert keeper.kept() == "00000\n[… 4,990 bytes cut …]\n00999".encode()
    assert keeper.parts() == [(0, b"00000"), (4995, b"00999")]
    assert keeper.tail(100) == b"00999"


def test_an_empty_log() -> None:
    keeper = LogKeeper(10)
    assert (keeper.kept(), keeper.tail(5), keeper.parts()) == (b"", b"", [])


def test_a_log_that_may_keep_nothing() -> None:
    keeper = LogKeeper(0)
    keeper.add(b"much")
    assert keeper.kept() == "\n[… 4 bytes cut …]\n".encode()


# -- verdicts


def ended(code: int | None, *, ran: bool = True) -> BoxEnd:
    return BoxEnd(ran=ran, exit=code, seconds=1.0)


@pytest.mark.parametrize(
    ("end", "outcome", "reason"),
    [
        (
            BoxEnd(ran=False, exit=None, seconds=0.0, no_network="no tap"),
            Outcome.BOX_FAILED,
            "The task could not be given a network of its own: no tap.",
        ),
        (
            BoxEnd(ran=True, exit=-9, seconds=1.0, no_network="no tap"),
            Outcome.BOX_FAILED,
            "The task was ended because its network was lost: no tap.",
        ),
        (BoxEnd(ran=True, exit=0, seconds=1.0, no_network="no tap"), Outcome.SUCCEEDED, ""),
    ],
)
def test_a_network_that_is_lost_is_not_the_scripts_fault(end: BoxEnd, outcome: Outcome, reason: str) -> None:
    verdict = judge(end, None, b"", None, Limits())
    assert (verdict.outcome, verdict.reason) == (outcome, reason)
    assert verdict.retryable is bool(reason)


@pytest.mark.parametrize(
    ("code", "stderr", "outcome", "limit", "retryable"),
    [
        (0, b"", Outcome.SUCCEEDED, None, False),
        (0, b"MemoryError\n", Outcome.SUCCEEDED, None, False),
        (1, b"ValueError: no\n", Outcome.SCRIPT_FAILED, None, True),
        (2, b"usage: script\n", Outcome.SCRIPT_FAILED, None, False),
        (1, b"ModuleNotFoundError: No module named 'x'\n", Outcome.SCRIPT_FAILED, None, False),
        (1, b"ImportError: libGL.so.1\nbut then something else\n", Outcome.SCRIPT_FAILED, None, True),
        (1, b"SyntaxError: invalid syntax\n", Outcome.SCRIPT_FAILED, None, False),
        (1, b"MemoryError\n", Outcome.LIMIT_EXCEEDED, Limit.MEMORY, False),
        (
            1,
            b"numpy._core._exceptions._ArrayMemoryError: Unable to allocate\n",
            Outcome.LIMIT_EXCEEDED,
            Limit.MEMORY,
            False,
        ),
        (-6, b"terminate called\n  what():  std::bad_alloc\n", Outcome.LIMIT_EXCEEDED, Limit.MEMORY, False),
        (1, b"OSError: [Errno 27] File too large: 'x'\n", Outcome.LIMIT_EXCEEDED, Limit.DISK, False),
        (-signal.SIGXFSZ, b"", Outcome.LIMIT_EXCEEDED, Limit.DISK, False),
        (1, b"RuntimeError: can't start new thread\n", Outcome.LIMIT_EXCEEDED, Limit.PROCESSES, False),
        (
            2,
            b"sh: 1: Cannot fork: Resource temporarily unavailable\n",
            Outcome.LIMIT_EXCEEDED,
            Limit.PROCESSES,
            False,
        ),
        (-9, b"", Outcome.SCRIPT_FAILED, None, True),
    ],
)
def test_an_end_is_judged(
    code: int, stderr: bytes, outcome: Outcome, limit: Limit | None, retryable: bool
) -> None:
    verdict = judge(ended(code), None, stderr, None, Limits())
    assert (verdict.outcome, verdict.limit, verdict.retryable, verdict.exit) == (
        outcome,
        limit,
        retryable,
        code,
    )
    assert bool(verdict.reason) == (outcome is not Outcome.SUCCEEDED)


def test_a_box_that_fails_is_the_machines_fault() -> None:
    verdict = judge(
        ended(None, ran=False), None, b"bwrap: setting up uid map: Permission denied\n", None, Limits()
    )
    assert (verdict.outcome, verdict.retryable) == (Outcome.BOX_FAILED, True)
    assert "uid map" in verdict.reason


def test_what_was_done_before_it_could_be_stopped_is_done() -> None:
    verdict = judge(ended(0), Exceeded(Limit.TIME, "late"), b"", None, Limits())
    assert verdict.outcome is Outcome.SUCCEEDED


def test_a_cancelled_attempt_is_cancelled_even_when_it_was_done() -> None:
    verdict = judge(ended(0), Cancelled("because"), b"", None, Limits())
    assert (verdict.outcome, verdict.reason) == (Outcome.CANCELLED, "because")


def test_a_reason_is_printable_and_short() -> None:
    said = last_lines(b"one\n\n\x1b[31mtwo\x07\n\xff\n" + b"x" * 10_000 + b"\n")
    assert len(said) <= 500
    assert all(character.isprintable() or character == "\n" for character in said)
    assert last_lines(b"a\nb\nc\nd\n") == "b\nc\nd"


# -- collecting


def collected(folder: Path, archive: Path, limits: Limits | None = None) -> Collected:
    with ArchiveWriter(archive) as writer:
        return collect(folder, writer, limits or Limits())


def test_regular_files_are_taken_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "run-result"
    (folder / "b" / "c").mkdir(parents=True)
    (folder / "b" / "c" / "deep").write_text("deep")
    (folder / "z").write_text("z")
    (folder / "a").write_text("")
    found = collected(folder, tmp_path / "zip")
    assert [(output.name, output.size) for output in found.outputs] == [("a", 0), ("z", 1), ("b/c/deep", 4)]
    assert found.skipped == []


def test_a_link_in_run_result_is_skipped(tmp_path: Path) -> None:
    folder = tmp_path / "run-result"
    folder.mkdir()
    (tmp_path / "secret").write_text("hush")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inner").write_text("hush")
    (folder / "file").symlink_to(tmp_path / "secret")
    (folder / "folder").symlink_to(tmp_path / "folder")
    found = collected(folder, tmp_path / "zip")
    assert found.outputs == []
    assert [name for name, why in found.skipped if "symbolic link" in why] == ["file", "folder"]


def test_run_result_itself_as_a_link_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("hush")
    (tmp_path / "run-result").symlink_to(tmp_path / "secret")
    found = collected(tmp_path / "run-result", tmp_path / "zip")
    assert found.outputs == []
    assert [name for name, _ in found.skipped] == ["run-result"]


def test_a_fifo_in_run_result_is_skipped(tmp_path: Path) -> None:
    folder = tmp_path / "run-result"
    folder.mkdir()
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(folder / "socket"))
        found = collected(folder, tmp_path / "zip")
    assert found.skipped == [
        ("pipe", "it is a named pipe, not a regular file"),
        ("socket", "it is a socket, not a regular file"),
    ]


def test_a_sparse_giant_is_skipped_without_being_read(tmp_path: Path) -> None:
    folder = tmp_path / "run-result"
    folder.mkdir()
    with open(folder / "giant", "wb") as giant:
        giant.truncate(50 << 30)
    (folder / "small").write_text("x")
    found = collected(folder, tmp_path / "zip")
    assert [output.name for output in found.outputs] == ["small"]
    assert found.over is not None
    assert found.skipped == [("giant", found.over)]


@pytest.mark.parametrize(
    "name", [b"not-utf8-\xff", b"new\nline", "bidi-\u202egpj.exe".encode(), b"DiscoTask.json", b"NUL"]
)
def test_names_that_deceive_are_skipped_and_told_printably(tmp_path: Path, name: bytes) -> None:
    folder = tmp_path / "run-result"
    folder.mkdir()
    with open(os.fsencode(folder) + b"/" + name, "w") as file:
        file.write("x")
    found = collected(folder, tmp_path / "zip")
    assert found.outputs == []
    [(told, why)] = found.skipped
    assert told.isprintable()
    assert why


@pytest.mark.parametrize("name", ["-rf", "two words", "ünï", "*.txt"])
def test_unusual_but_honest_names_are_taken(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "run-result"
    folder.mkdir()
    (folder / name).write_text("x")
    assert [output.name for output in collected(folder, tmp_path / "zip").outputs] == [name]


def test_files_that_their_task_closed_are_taken(tmp_path: Path) -> None:
    folder = tmp_path / "run-result"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "file").write_text("x")
    (folder / "inner" / "file").chmod(0)
    (folder / "inner").chmod(0)
    assert [output.name for output in collected(folder, tmp_path / "zip").outputs] == ["inner/file"]


def test_folders_too_deep_are_skipped(tmp_path: Path) -> None:
    folder = tmp_path / "run-result"
    deep = folder.joinpath(*"d" * 40)
    deep.mkdir(parents=True)
    (deep / "file").write_text("x")
    found = collected(folder, tmp_path / "zip")
    assert found.outputs == []
    assert "folders deep" in found.skipped[0][1]


def test_what_is_small(tmp_path: Path) -> None:
    assert is_small(tmp_path / "absent")
    assert is_small(tmp_path)
    (tmp_path / "a").write_bytes(bytes(1 << 20))
    assert not is_small(tmp_path)
    (tmp_path / "a").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    assert not is_small(tmp_path)


# -- removing and measuring


def test_a_tree_of_any_depth_is_removed(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    here = os.open(top, os.O_RDONLY)
    for number in range(3000):
        os.mkdir("d", dir_fd=here)
        if number % 100 == 0:
            os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
        deeper = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    remove_tree(top)
    assert not top.exists()


def test_closed_folders_and_links_are_removed_and_nothing_else(tmp_path: Path) -> None:
    top, kept = tmp_path / "top", tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("x")
    (top / "a" / "b").mkdir(parents=True)
    (top / "a" / "b" / "file").write_text("x")
    (top / "a" / "link").symlink_to(kept)
    os.mkfifo(top / "a" / "pipe")
    for closed in (top / "a" / "b", top / "a"):
        closed.chmod(0)
    remove_tree(top)
    assert not top.exists()
    assert (kept / "file").exists()
    remove_tree(top)


def test_disk_is_counted_once_for_hard_links_and_not_for_holes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(os.urandom(1 << 20))
    before = disk_usage([tmp_path], 1 << 40)
    assert before >= 1 << 20
    os.link(tmp_path / "a", tmp_path / "b")
    with open(tmp_path / "hole", "wb") as hole:
        hole.truncate(1 << 30)
    (tmp_path / "away").symlink_to("/usr")
    assert disk_usage([tmp_path], 1 << 40) < before + (1 << 16)
    assert disk_usage([tmp_path / "absent"], 1) == 0


# -- laying out


def test_a_copy_is_private_and_exact(tmp_path: Path) -> None:
    content = os.urandom(3_000_001)
    (tmp_path / "blob").write_bytes(content)
    (tmp_path / "blob").chmod(0o400)
    work = WorkFolder(tmp_path / "attempt", None)
    work.lay_out([Placed("in", tmp_path / "blob"), Placed("go", tmp_path / "blob", executable=True)])
    assert (work.work / "in").read_bytes() == content
    assert (work.work / "in").stat().st_mode & 0o777 == 0o600
    assert (work.work / "go").stat().st_mode & 0o777 == 0o700
    assert (work.work / "in").stat().st_nlink == 1
    assert sorted(os.listdir(work.work)) == ["go", "in", "run-result"]
    work.remove()
    assert not work.path.exists()


def test_two_files_of_one_name_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "blob").write_text("x")
    work = WorkFolder(tmp_path / "attempt", None)
    with pytest.raises(InputError, match="twice"):
        work.lay_out([Placed("in", tmp_path / "blob"), Placed("in", tmp_path / "blob")])
    assert not work.path.exists()


# -- mounts


@pytest.mark.parametrize("target", ["/home/codelab", "/home/codelab/", "/opt/models", "/srv/ünï", "/x"])
def test_a_folder_of_its_own_is_a_mount_target(target: str) -> None:
    assert check_mount_target(target) is None


@pytest.mark.parametrize(
    "target",
    ["", "relative", "./x", "/", "//", "/a//b", "/a/../b", "/a/./b", "/proc", "/proc/x", "/dev/shm/x", "/sys", "/usr/lib",
     "/local", "/local/x", "/tmp", "/tmp/x", "/etc/x", "/bin", "/lib64", "/a\nb", "/a\0b", "/" + "x" * 2000, "/x" * 40],
)  # fmt: skip
def test_a_target_that_would_hide_the_box_is_refused_with_a_reason(target: str) -> None:
    assert check_mount_target(target)


def test_mounts_inside_each_other_are_refused() -> None:
    assert check_mount_targets(["/home/codelab", "/home/code"]) is None
    assert check_mount_targets(["/home/codelab", "/home/codelab/models"])
    assert check_mount_targets(["/home/codelab", "/home/codelab/"])
    assert check_mount_targets(["/home/codelab", "/proc"])


# -- the filter


def run_filter(machine: str, number: int, *arguments: int, audit: int | None = None) -> int:
    """What the kernel would do with one call: a small machine for the instructions that the filter uses."""
    native = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}[machine]
    seen = struct.pack("=IIQ6Q", number, audit or native, 0, *(*arguments, *[0] * (6 - len(arguments))))
    program = list(struct.iter_unpack("=HBBI", filter_program(machine)))
    at = accumulator = 0
    while True:
        code, if_true, if_false, value = program[at]
        at += 1
        if code == 0x20:
            [accumulator] = struct.unpack_from("=I", seen, value)
        elif code == 0x06:
            return int(value)
        else:
            truth = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}[
                code
            ]
            at += if_true if truth else if_false


ALLOWED, KILLED = 0x7FFF0000, 0x80000000
NOT_PERMITTED, NO_SUCH_CALL, NO_SUCH_FAMILY = 0x00050001, 0x00050026, 0x00050061
NUMBERS = {
    "x86_64": {
        "read": 0,
        "socket": 41,
        "socketpair": 53,
        "clone": 56,
        "clone3": 435,
        "ioctl": 16,
        "keyctl": 250,
        "ptrace": 101,
    },
    "aarch64": {
        "read": 63,
        "socket": 198,
        "socketpair": 199,
        "clone": 220,
        "clone3": 435,
        "ioctl": 29,
        "keyctl": 219,
        "ptrace": 117,
    },
}


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize(
    ("call", "arguments", "answer"),
    [
        ("read", (0,), ALLOWED),
        ("socket", (1, 1), ALLOWED),
        ("socket", (2, 1), NO_SUCH_FAMILY),
        ("socket", (40, 1), NO_SUCH_FAMILY),
        ("socketpair", (1, 1), ALLOWED),
        ("socketpair", (30, 1), NO_SUCH_FAMILY),
        ("clone", (17,), ALLOWED),
        ("clone", (0x003D0F00,), ALLOWED),  # a thread
        ("clone", (0x10000000 | 17,), NOT_PERMITTED),
        ("clone", (0x00020000,), NOT_PERMITTED),
        ("clone3", (), NO_SUCH_CALL),
        ("ioctl", (0, 0x5401), ALLOWED),
        ("ioctl", (0, 0x5412), NOT_PERMITTED),
        ("ioctl", (0, 0x5412 | 1 << 32), NOT_PERMITTED),
        ("keyctl", (), NOT_PERMITTED),
        ("ptrace", (), NOT_PERMITTED),
    ],
)
def test_the_filter_answers(machine: str, call: str, arguments: tuple[int, ...], answer: int) -> None:
    assert run_filter(machine, NUMBERS[machine][call], *arguments) == answer


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_foreign_and_future_calls_do_not_pass(machine: str) -> None:
    assert run_filter(machine, 0, audit=0x40000003) == KILLED
    assert run_filter(machine, 600) == NO_SUCH_CALL
    assert run_filter(machine, 0x40000000 | 1) == NO_SUCH_CALL


def test_the_filter_of_this_machine_exists() -> None:
    assert knows(platform.machine())
    assert not knows("pdp11")


# -- what is shown


def test_the_etc_of_a_task_holds_nothing_of_the_owner(tmp_path: Path) -> None:
    system = tmp_path / "etc"
    (system / "fonts").mkdir(parents=True)
    (system / "fonts" / "fonts.conf").write_text("public")
    (system / "fonts" / "private.conf").write_text("hush")
    (system / "fonts" / "private.conf").chmod(0o600)
    (system / "shadow").write_text("hush")
    (system / "localtime").symlink_to("/usr/share/zoneinfo/Europe/Zurich")
    folder = tmp_path / "shown"
    make_system_files(folder, {"ffmpeg": Path("/opt/ffmpeg")}, system)
    make_system_files(folder, {"ffmpeg": Path("/opt/ffmpeg")}, system)
    assert (folder / "fonts" / "fonts.conf").read_text() == "public"
    assert not (folder / "fonts" / "private.conf").exists()
    assert not (folder / "shadow").exists()
    assert os.readlink(folder / "localtime") == "/usr/share/zoneinfo/Europe/Zurich"
    assert os.readlink(folder / PROGRAMS / "ffmpeg") == "/opt/ffmpeg"
    assert "task:x:1000:1000" in (folder / "passwd").read_text()


def test_the_etc_of_a_task_with_a_network_says_who_to_ask_and_whom_to_trust(tmp_path: Path) -> None:
    system = tmp_path / "etc"
    for place in ("ssl/certs", "ssl/private"):
        (system / place).mkdir(parents=True)
        (system / place / "a.pem").write_text("content")
    folder = tmp_path / "shown"
    make_system_files(folder, {}, system, resolvers=("10.0.2.3", "fd00::3"))
    assert (folder / "resolv.conf").read_text() == "nameserver 10.0.2.3\nnameserver fd00::3\n"
    assert "hosts: files dns" in (folder / "nsswitch.conf").read_text()
    assert (folder / "ssl" / "certs" / "a.pem").exists()
    assert not (folder / "ssl" / "private").exists()
    make_system_files(folder, {}, system)
    assert not (folder / "resolv.conf").exists()
    assert not (folder / "ssl").exists()
    assert "hosts: files\n" in (folder / "nsswitch.conf").read_text()


def test_a_python_in_the_owners_home_itself_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "alice"))
    with pytest.raises(SandboxError, match="must not see"):
        own_interpreter()


def test_a_link_to_python_outside_of_its_folders_is_shown_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = tmp_path / "python"
    link.symlink_to(os.path.realpath("/proc/self/exe"))
    monkeypatch.setattr("sys.executable", str(link))
    assert link in own_interpreter().roots
    assert tmp_path not in own_interpreter().roots


# -- a runner's folder


def test_a_folder_belongs_to_one_agent(tmp_path: Path) -> None:
    box: Box = box_of(SandboxLevel.NONE)
    first = Runner(tmp_path, box, "attic")
    with pytest.raises(UsageError, match="Another agent"):
        Runner(tmp_path, box, "attic")
    first.close()
    Runner(tmp_path, box, "attic").close()


def test_what_a_killed_agent_left_is_swept(tmp_path: Path) -> None:
    runner = Runner(tmp_path, box_of(SandboxLevel.NONE), "attic")
    (tmp_path / "attempts" / "k3f9-1-1-7" / "work").mkdir(parents=True)
    (tmp_path / "attempts" / "k3f9-1-1-7" / "work" / "file").write_text("x")
    (tmp_path / "archives" / "k3f9-1-1-7.zip").write_text("x")
    runner.sweep()
    assert not list((tmp_path / "attempts").iterdir())
    assert not list((tmp_path / "archives").iterdir())
    runner.close()
