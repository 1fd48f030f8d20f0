"""Reads the table of contents of an archive that nobody trusts yet; every claim in it is checked against the file."""

import io
import os
import stat
import struct
from itertools import pairwise

from discogrid.archive.limits import DIRECTORY_BYTES_MAX, RATIO_FREE_BYTES, RATIO_MAX, ArchiveLimits
from discogrid.archive.names import NameBook
from discogrid.archive.records import (
    CENTRAL,
    CENTRAL_SIGN,
    DEFLATED,
    END,
    END64,
    END64_REST,
    END64_SIGN,
    END_SIGN,
    LOCAL,
    LOCAL_SIGN,
    LOCATOR,
    LOCATOR_SIGN,
    MAX16,
    MAX32,
    STORED,
    UTF8_FLAG,
    ZIP64_EXTRA,
    Member,
)
from discogrid.errors import HostileArchive

_ENCRYPTED_FLAGS = 0x0001 | 0x0040 | 0x2000
_FLAGS_KNOWN = 0x0006 | 0x0008 | UTF8_FLAG  # level of deflate, sums behind the bytes, UTF-8 names
_UNICODE_PATH_EXTRA = 0x7075  # would rename a member behind our back
_SPECIAL_BITS = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX


def hostile(why: str) -> HostileArchive:
    """The refusal of an archive, for the reason `why`."""
    return HostileArchive(
        "The archive was refused before anything was unpacked.",
        why=why[:1].upper() + why[1:] + ".",
        fix="Do not use this file; if discogrid made it, report the agent that did and its version.",
    )


def read_directory(file: io.FileIO, limits: ArchiveLimits) -> dict[str, tuple[Member, int]]:
    """Every member by name, with the offset of its bytes; HostileArchive unless all of the archive is sound."""
    size = os.fstat(file.fileno()).st_size
    count, length, offset = _end(file, size)
    if count > limits.members:
        raise hostile(f"it holds {count} members; at most {limits.members} are allowed")
    if length > DIRECTORY_BYTES_MAX:
        raise hostile(f"its directory has {length} bytes; at most {DIRECTORY_BYTES_MAX} are allowed")
    members = _parse(_read_at(file, offset, length), count)
    _check_sizes(members, limits)
    names = NameBook()
    found: dict[str, tuple[Member, int]] = {}
    spans = [(offset, offset)]
    for member in members:
        if reason := names.refusal(member.name):
            raise hostile(f"{member.name!r:.80}: {reason}")
        names.add(member.name)
        start = _body_offset(file, member, offset)
        found[member.name] = (member, start)
        spans.append((member.offset, start + member.packed))
    spans.sort()
    if any(left[1] > right[0] for left, right in pairwise(spans)):
        raise hostile("its members overlap")
    return found


def _read_at(file: io.FileIO, offset: int, length: int) -> bytes:
    """Exactly `length` bytes."""
    file.seek(offset)
    parts: list[bytes] = []
    while length and (part := file.read(length)):
        parts.append(part)
        length -= len(part)
    if length:
        raise hostile("it ends too early")
    return b"".join(parts)


def _end(file: io.FileIO, size: int) -> tuple[int, int, int]:
    """How many members, and length and offset of the directory, which must reach to the end records."""
    at = size - END.size
    if at < 0:
        raise hostile("it is too short to be an archive")
    sign, disk, first, here, count, length, offset, comment = END.unpack(_read_at(file, at, END.size))
    if sign != END_SIGN or comment:
        raise hostile("it does not end as an archive does")
    wide_at = at - LOCATOR.size - END64.size
    if wide_at >= 0:
        locator = _read_at(file, at - LOCATOR.size, LOCATOR.size)
        if locator.startswith(LOCATOR_SIGN):
            narrow = (here, count, length, offset)
            disk, first, here, count, length, offset = _end64(file, locator, wide_at)
            if any(
                small not in (large, sentinel)
                for small, large, sentinel in zip(
                    narrow, (here, count, length, offset), (MAX16, MAX16, MAX32, MAX32), strict=True
                )
            ):
                raise hostile("its two end records disagree")
            at = wide_at
    if disk or first or here != count:
        raise hostile("it is one part of several")
    if offset + length != at:
        raise hostile("its directory is not where it says")
    return count, length, offset


def _end64(file: io.FileIO, locator: bytes, at: int) -> tuple[int, int, int, int, int, int]:
    _, disk, where, disks = LOCATOR.unpack(locator)
    sign, rest, _, _, here_disk, first, here, count, length, offset = END64.unpack(
        _read_at(file, at, END64.size)
    )
    if sign != END64_SIGN or rest != END64_REST or disk or disks > 1 or where != at:
        raise hostile("its 64-bit end record is not where it says")
    return here_disk, first, here, count, length, offset


def _parse(directory: bytes, count: int) -> list[Member]:
    members: list[Member] = []
    at = 0
    while at < len(directory):
        if len(members) == count or at + CENTRAL.size > len(directory):
            raise hostile("its directory does not hold the members it counts")
        member, at = _parse_one(directory, at)
        members.append(member)
    if len(members) != count:
        raise hostile("its directory does not hold the members it counts")
    return members


def _parse_one(directory: bytes, at: int) -> tuple[Member, int]:
    """The member whose record starts at `at`, and where the next one does."""
    fields = CENTRAL.unpack_from(directory, at)
    sign, _, _, flags, method, _, _, crc, packed, size, name_length, extra_length, comment_length, disk = (
        fields[:14]
    )
    attributes, offset = fields[15:]
    at += CENTRAL.size
    end = at + name_length + extra_length + comment_length
    if sign != CENTRAL_SIGN or disk not in (0, MAX16) or end > len(directory):
        raise hostile("its directory is damaged")
    name = _name(directory[at : at + name_length], flags)
    extra = directory[at + name_length : at + name_length + extra_length]
    size, packed, offset = _widened(name, extra, size, packed, offset)
    mode = attributes >> 16
    _check_kind(name, flags, method, mode, size)
    return Member(name, size, packed, crc, method, bool(mode & stat.S_IXUSR), offset), end


def _name(raw: bytes, flags: int) -> str:
    if not flags & UTF8_FLAG and not raw.isascii():
        raise hostile(f"the name {raw!r:.80} does not say how it is encoded")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise hostile(f"the name {raw!r:.80} is not valid UTF-8") from None


def _widened(name: str, extra: bytes, size: int, packed: int, offset: int) -> tuple[int, int, int]:
    """Size, packed size and offset, with what the 64-bit extra field says in place of the sentinels."""
    values = [size, packed, offset]
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        field = extra[at + 4 : at + 4 + length]
        at += 4 + length
        if kind == _UNICODE_PATH_EXTRA:
            raise hostile(f"{name!r:.80} has a second name")
        if kind == ZIP64_EXTRA:
            wide = [index for index, value in enumerate(values) if value == MAX32]
            if len(field) < 8 * len(wide):
                raise hostile(f"{name!r:.80} lacks its 64-bit sizes")
            for index, value in zip(wide, struct.unpack_from(f"<{len(wide)}Q", field), strict=True):
                values[index] = value
    if at != len(extra):
        raise hostile(f"{name!r:.80} has a damaged extra field")
    return values[0], values[1], values[2]


def _check_kind(name: str, flags: int, method: int, mode: int, size: int) -> None:
    if flags & _ENCRYPTED_FLAGS:
        raise hostile(f"{name!r:.80} is encrypted")
    if flags & ~_FLAGS_KNOWN:
        raise hostile(f"{name!r:.80} has flags that no archive of ours has")
    if method not in (STORED, DEFLATED):
        raise hostile(f"{name!r:.80} is packed by the unknown method {method}")
    kind = stat.S_IFMT(mode)
    if kind not in (0, stat.S_IFDIR if name.endswith("/") else stat.S_IFREG):
        raise hostile(f"{name!r:.80} is neither a regular file nor a folder")
    if mode & _SPECIAL_BITS:
        raise hostile(f"{name!r:.80} is set-uid, set-gid or sticky")
    if name.endswith("/") and size:
        raise hostile(f"the folder {name!r:.80} has a content")


def _check_sizes(members: list[Member], limits: ArchiveLimits) -> None:
    for member in members:
        if member.size > limits.member_bytes:
            raise hostile(
                f"{member.name!r:.80} would unpack to {member.size} bytes; at most {limits.member_bytes} are allowed"
            )
        if member.method == STORED and member.size != member.packed:
            raise hostile(
                f"{member.name!r:.80} is stored, but in {member.packed} bytes instead of {member.size}"
            )
        if member.size > RATIO_FREE_BYTES and member.size > member.packed * RATIO_MAX:
            raise hostile(
                f"{member.name!r:.80} would grow to {member.size} from {member.packed} bytes: it looks like a bomb"
            )
    total = sum(member.size for member in members)
    if total > limits.total_bytes:
        raise hostile(f"it would unpack to {total} bytes; at most {limits.total_bytes} are allowed")


def _body_offset(file: io.FileIO, member: Member, directory_offset: int) -> int:
    """Where a member's bytes start; its local header must tell what the directory told."""
    name = member.name.encode()
    if member.offset + LOCAL.size + len(name) > directory_offset:
        raise hostile(f"{member.name!r:.80} does not start inside the archive")
    head = _read_at(file, member.offset, LOCAL.size + len(name))
    sign, _, flags, method, _, _, _, _, _, name_length, extra_length = LOCAL.unpack_from(head)
    if (
        sign != LOCAL_SIGN
        or flags & _ENCRYPTED_FLAGS
        or method != member.method
        or name_length != len(name)
        or head[LOCAL.size :] != name
    ):
        raise hostile(f"{member.name!r:.80} has a header that differs from the directory")
    return int(member.offset + len(head) + extra_length)
