"""Makes the small program that a task is started through: it puts the last restrictions on itself, then becomes the task.

Landlock must come after the mounts of a box and before the task, in the task's own process. A Python there would cost
its start, some ten milliseconds, and a compiler is not at hand where an agent is installed. So the program is written
here, byte by byte: a loop of some thirty instructions that goes through a table of system calls. What is done, in which
order, and where to go on after which answer, stands in the table; the loop never changes.

    table    one row a step: number, six arguments, where its answer goes, and the row to go on with
             after a negative answer, after zero, after a positive one
    data     what rows point to: paths, rules, limits

An answer may go into an argument of a later row: that is how a descriptor gets from `openat` to `dup3`.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

# (x86_64, aarch64)
CALLS: Final[dict[str, tuple[int, int]]] = {
    "capset": (126, 91),
    "chdir": (80, 49),
    "clone": (56, 220),
    "close_range": (436, 436),
    "dup3": (292, 24),
    "execve": (59, 221),
    "exit_group": (231, 94),
    "kill": (62, 129),
    "landlock_add_rule": (445, 445),
    "landlock_create_ruleset": (444, 444),
    "landlock_restrict_self": (446, 446),
    "mkdirat": (258, 34),
    "mknodat": (259, 33),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "openat": (257, 56),
    "pivot_root": (155, 41),
    "prctl": (157, 167),
    "prlimit64": (302, 261),
    "read": (0, 63),
    "recvfrom": (45, 207),
    "seccomp": (317, 277),
    "sethostname": (170, 161),
    "setsid": (112, 157),
    "symlinkat": (266, 36),
    "umask": (95, 166),
    "umount2": (166, 39),
    "unlinkat": (263, 35),
    "unshare": (272, 97),
    "wait4": (61, 260),
    "write": (1, 64),
}
_COLUMNS: Final = {"x86_64": 0, "aarch64": 1}
_ARGUMENTS: Final = 6
_ROW: Final = struct.Struct("<11Q")
_ANSWER_COLUMN: Final = 7  # of a row; its arguments start at 1
_WORD: Final = 8
# Where the two parts are loaded; on no machine do they share a page.
_CODE_AT: Final = 0x40_0000
_DATA_AT: Final = 0x50_0000
_PAGE_MAX: Final = 0x1_0000


@dataclass(eq=False, slots=True)
class Memory:
    """Some bytes of the data, which rows may read and the kernel may write."""

    content: bytes


@dataclass(frozen=True, slots=True)
class At:
    """The address of a place in some memory."""

    memory: Memory
    offset: int = 0


@dataclass(eq=False, slots=True)
class Step:
    """One system call; without anything else said, the next one follows, and a negative answer ends the program.

    `may_fail`: the next one follows whatever the answer is.
    """

    call: str
    arguments: "tuple[int | At | Argument, ...]" = ()
    answer: "At | Argument | None" = None
    if_negative: "Step | None" = None
    if_positive: "Step | None" = None
    then: "Step | None" = None
    may_fail: bool = False


@dataclass(frozen=True, slots=True)
class Argument:
    """The place of an argument of another step: there an answer is put, or eight bytes are found."""

    step: Step
    index: int


@dataclass(slots=True)
class Table:
    """Steps in order, and where to go on when one fails."""

    steps: list[Step] = field(default_factory=list)

    def add(
        self,
        call: str,
        *arguments: int | At | Argument,
        answer: At | Argument | None = None,
        if_negative: Step | None = None,
        if_positive: Step | None = None,
        then: Step | None = None,
        may_fail: bool = False,
    ) -> Step:
        """One more step, see Step."""
        step = Step(call, arguments, answer, if_negative, if_positive, then, may_fail)
        self.steps.append(step)
        return step


def knows(machine: str) -> bool:
    """Whether programs can be made for this machine (`platform.machine()`)."""
    return machine in _COLUMNS


def program(machine: str, table: Table, execute: Step, failed: Step, answer: At) -> bytes:
    """The program, ready to be written to a file and run as `PROGRAM COMMAND ARGUMENT…`.

    `execute` gets the command, its arguments and the variables; `failed` follows a negative answer that no step
    expects; the last negative answer is at `answer`, where those go that nobody wants.
    """
    code_at = _CODE_AT + _HEADERS_BYTES
    code_bytes = len(_CODE[machine](0, 0, 0))
    table_at = _DATA_AT + _HEADERS_BYTES + code_bytes
    rows = {id(step): table_at + number * _ROW.size for number, step in enumerate(table.steps)}
    data, places = _laid_out([*_memories(table.steps), answer.memory], table_at + len(rows) * _ROW.size)

    def address(value: int | At | Argument) -> int:
        match value:
            case At(memory, offset):
                return places[id(memory)] + offset
            case Argument(step, index):
                return rows[id(step)] + (1 + index) * _WORD
            case int():
                return value & 0xFFFF_FFFF_FFFF_FFFF

    def row(number: int, step: Step) -> bytes:
        following = table.steps[min(number + 1, len(table.steps) - 1)]
        then = rows[id(step.then or following)]
        negative = then if step.may_fail else rows[id(step.if_negative or failed)]
        given = [address(argument) for argument in step.arguments]
        return _ROW.pack(
            CALLS[step.call][_COLUMNS[machine]],
            *(*given, *[0] * (_ARGUMENTS - len(given))),
            address(step.answer or answer),
            negative,
            then,
            then if step.if_positive is None else rows[id(step.if_positive)],
        )

    packed = b"".join(row(number, step) for number, step in enumerate(table.steps))
    code = _CODE[machine](table_at, rows[id(execute)], address(answer))
    assert len(code) == code_bytes
    return _headers(machine, code_at, len(code), table_at, len(packed) + len(data)) + code + packed + data


def _memories(steps: Sequence[Step]) -> list[Memory]:
    values = [value for step in steps for value in (*step.arguments, step.answer)]
    return [value.memory for value in values if isinstance(value, At)]


def _laid_out(memories: Sequence[Memory], start: int) -> tuple[bytes, dict[int, int]]:
    """All memories one after the other, and the address of each by its identity."""
    data, places = b"", {}
    for memory in memories:
        if id(memory) not in places:
            places[id(memory)] = start + len(data)
            data += memory.content + bytes(-len(memory.content) % _WORD)
    return data, places


def _headers(machine: str, entry: int, code_bytes: int, data_at: int, data_bytes: int) -> bytes:
    """The ELF header and the two parts: code that cannot be written, data that cannot be run."""
    identity = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)  # 64 bits, little-endian, version 1
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        *(identity, 2, _ELF_MACHINES[machine], 1, entry),  # an executable at fixed addresses
        *(_ELF_BYTES, 0, 0, _ELF_BYTES, _PART.size, _PARTS, 0, 0, 0),
    )
    code_end = _HEADERS_BYTES + code_bytes
    readable, writable, runnable = 4, 2, 1
    parts = [
        _PART.pack(1, readable | runnable, 0, _CODE_AT, _CODE_AT, code_end, code_end, _PAGE_MAX),
        _PART.pack(1, readable | writable, code_end, data_at, data_at, data_bytes, data_bytes, _PAGE_MAX),
        _PART.pack(_ELF_STACK, readable | writable, 0, 0, 0, 0, 0, 16),
    ]
    return header + b"".join(parts)


_ELF_BYTES: Final = 64
_ELF_MACHINES: Final = {"x86_64": 62, "aarch64": 183}
_ELF_STACK: Final = 0x6474_E551  # PT_GNU_STACK: the stack is not runnable
_PARTS: Final = 3
_PART: Final = struct.Struct("<IIQQQQQQ")
_HEADERS_BYTES: Final = _ELF_BYTES + _PARTS * _PART.size


def _code_x86_64(first: int, execute: int, negative: int) -> bytes:
    """The loop; rbx is the row, rbp is for negative answers, and at rsp are argc, argv…, 0, variables…, 0."""
    start = (
        b"\xbb" + struct.pack("<I", first),  # mov ebx, first
        b"\xbd" + struct.pack("<I", negative),  # mov ebp, negative
        b"\xb9" + struct.pack("<I", execute),  # mov ecx, execute
        b"\x48\x8b\x54\x24\x10",  # mov rdx, [rsp+16]: the first argument is the command
        b"\x48\x89\x51\x08",  # mov [rcx+8], rdx
        b"\x48\x8d\x54\x24\x10",  # lea rdx, [rsp+16]
        b"\x48\x89\x51\x10",  # mov [rcx+16], rdx
        b"\x48\x8b\x34\x24",  # mov rsi, [rsp]
        b"\x48\x8d\x14\xf2",  # lea rdx, [rdx+rsi*8]
        b"\x48\x89\x51\x18",  # mov [rcx+24], rdx
    )
    loop = (
        b"\x48\x8b\x03",  # mov rax, [rbx]
        b"\x48\x8b\x7b\x08",  # mov rdi, [rbx+8]
        b"\x48\x8b\x73\x10",  # mov rsi, [rbx+16]
        b"\x48\x8b\x53\x18",  # mov rdx, [rbx+24]
        b"\x4c\x8b\x53\x20",  # mov r10, [rbx+32]
        b"\x4c\x8b\x43\x28",  # mov r8, [rbx+40]
        b"\x4c\x8b\x4b\x30",  # mov r9, [rbx+48]
        b"\x0f\x05",  # syscall
        b"\x48\x8b\x53\x38",  # mov rdx, [rbx+56]
        b"\x89\x02",  # mov [rdx], eax
        b"\x48\x85\xc0",  # test rax, rax
        b"\x78\x08",  # js negative
        b"\x74\x0f",  # jz zero
        b"\x48\x8b\x5b\x50",  # mov rbx, [rbx+80]
        b"\xeb\xd0",  # jmp loop
        b"\x89\x45\x00",  # negative: mov [rbp], eax
        b"\x48\x8b\x5b\x40",  # mov rbx, [rbx+64]
        b"\xeb\xc7",  # jmp loop
        b"\x48\x8b\x5b\x48",  # zero: mov rbx, [rbx+72]
        b"\xeb\xc1",  # jmp loop
    )
    return b"".join((*start, *loop))


def _code_aarch64(first: int, execute: int, negative: int) -> bytes:
    """The same loop; x20 is the row, x22 is for negative answers."""

    def load(target: int, base: int, offset: int) -> int:
        return 0xF940_0000 | offset // _WORD << 10 | base << 5 | target

    def store(source: int, base: int, offset: int) -> int:
        return 0xF900_0000 | offset // _WORD << 10 | base << 5 | source

    def move(target: int, value: int) -> tuple[int, int]:  # movz, movk …, lsl 16
        return 0xD280_0000 | (value & 0xFFFF) << 5 | target, 0xF2A0_0000 | value >> 16 << 5 | target

    def jump(words: int) -> int:
        return 0x1400_0000 | words & 0x03FF_FFFF

    start = (
        0x9100_03F3,  # mov x19, sp
        *move(20, first),
        *move(21, execute),
        *move(22, negative),
        load(1, 19, 16),  # the first argument is the command
        store(1, 21, 8),
        0x9100_4261,  # add x1, x19, 16
        store(1, 21, 16),
        load(2, 19, 0),
        0x8B02_0C21,  # add x1, x1, x2, lsl 3
        store(1, 21, 24),
    )
    loop = (
        load(8, 20, 0),
        *(load(register, 20, (register + 1) * _WORD) for register in range(_ARGUMENTS)),
        0xD400_0001,  # svc 0
        load(9, 20, _ANSWER_COLUMN * _WORD),
        0xB900_0120,  # str w0, [x9]
        0xB7F8_0080,  # tbnz x0, 63, negative
        0xB400_00C0,  # cbz x0, zero
        load(20, 20, 80),
        jump(-13),
        0xB900_02C0,  # negative: str w0, [x22]
        load(20, 20, 64),
        jump(-16),
        load(20, 20, 72),  # zero
        jump(-18),
    )
    return struct.pack(f"<{len(start) + len(loop)}I", *start, *loop)


_CODE: Final = {"x86_64": _code_x86_64, "aarch64": _code_aarch64}
