"""The records of a zip file as bytes (PKWARE APPNOTE 6.3): what writer and reader share."""

import stat
import struct
from dataclasses import dataclass

STORED, DEFLATED = 0, 8
UTF8_FLAG = 0x800

# signature, version, flags, method, time, date, crc, packed, size, name bytes, extra bytes
LOCAL = struct.Struct("<4s5H3L2H")
# signature, made by, version, flags, method, time, date, crc, packed, size, name bytes, extra bytes, comment bytes,
# disk, internal attributes, external attributes, offset
CENTRAL = struct.Struct("<4s6H3L5H2L")
# signature, disk, directory's disk, entries here, entries, directory bytes, directory offset, comment bytes
END = struct.Struct("<4s4H2LH")
# signature, bytes that follow, made by, version, disk, directory's disk, entries here, entries, bytes, offset
END64 = struct.Struct("<4sQ2H2L4Q")
# signature, disk of END64, offset of END64, disks
LOCATOR = struct.Struct("<4sLQL")

LOCAL_SIGN, CENTRAL_SIGN, END_SIGN = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
END64_SIGN, LOCATOR_SIGN = b"PK\x06\x06", b"PK\x06\x07"
END64_REST = END64.size - 12  # what END64 counts as following its first two fields
ZIP64_EXTRA = 0x0001

MAX16, MAX32 = 0xFFFF, 0xFFFFFFFF
_UNIX = 3 << 8
_VERSION, _VERSION64 = 20, 45
_DOS_TIME, _DOS_DATE = 0, 0x21  # 1980-01-01 00:00, always: the same content is the same bytes
_DOS_FOLDER = 0x10


@dataclass(frozen=True, slots=True)
class Member:
    """One file or folder (its name ends in `/`) of an archive; sizes in bytes, `offset` that of its local header."""

    name: str
    size: int = 0
    packed: int = 0
    crc: int = 0
    method: int = STORED
    executable: bool = False
    offset: int = 0

    @property
    def folder(self) -> bool:
        """Whether it is a folder."""
        return self.name.endswith("/")


def local_record(member: Member, *, wide: bool) -> bytes:
    """The header in front of a member's bytes; `wide` reserves room for 64-bit sizes, so that its length is known."""
    name = member.name.encode()
    extra = struct.pack("<HHQQ", ZIP64_EXTRA, 16, member.size, member.packed) if wide else b""
    size, packed = (MAX32, MAX32) if wide else (member.size, member.packed)
    version = _VERSION64 if wide else _VERSION
    flags = 0 if member.name.isascii() else UTF8_FLAG
    head = LOCAL.pack(
        LOCAL_SIGN,
        version,
        flags,
        member.method,
        _DOS_TIME,
        _DOS_DATE,
        member.crc,
        packed,
        size,
        len(name),
        len(extra),
    )
    return head + name + extra


def central_record(member: Member) -> bytes:
    """A member's entry in the central directory."""
    name = member.name.encode()
    wide = [value for value in (member.size, member.packed, member.offset) if value >= MAX32]
    extra = struct.pack(f"<HH{len(wide)}Q", ZIP64_EXTRA, 8 * len(wide), *wide) if wide else b""
    version = _VERSION64 if wide else _VERSION
    if member.folder:
        attributes = (stat.S_IFDIR | 0o755) << 16 | _DOS_FOLDER
    else:
        attributes = (stat.S_IFREG | (0o755 if member.executable else 0o644)) << 16
    head = CENTRAL.pack(
        CENTRAL_SIGN,
        _UNIX | version,
        version,
        0 if member.name.isascii() else UTF8_FLAG,
        member.method,
        _DOS_TIME,
        _DOS_DATE,
        member.crc,
        min(member.packed, MAX32),
        min(member.size, MAX32),
        len(name),
        len(extra),
        0,
        0,
        0,
        attributes,
        min(member.offset, MAX32),
    )
    return head + name + extra


def end_records(count: int, directory_bytes: int, directory_offset: int) -> bytes:
    """What closes an archive, with the 64-bit records where a number needs them."""
    wide = b""
    if count >= MAX16 or directory_bytes >= MAX32 or directory_offset >= MAX32:
        wide = END64.pack(
            END64_SIGN,
            END64_REST,
            _UNIX | _VERSION64,
            _VERSION64,
            0,
            0,
            count,
            count,
            directory_bytes,
            directory_offset,
        )
        wide += LOCATOR.pack(LOCATOR_SIGN, 0, directory_offset + directory_bytes, 1)
    entries = min(count, MAX16)
    return wide + END.pack(
        END_SIGN, 0, 0, entries, entries, min(directory_bytes, MAX32), min(directory_offset, MAX32), 0
    )
