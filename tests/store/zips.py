"""Makes archives by hand, field by field, so that any of them can lie."""

import stat
import struct
import zlib
from dataclasses import dataclass, field

REGULAR = stat.S_IFREG | 0o644


@dataclass
class Entry:
    """One member; a field left None is told truthfully."""

    name: bytes
    content: bytes = b"x"
    mode: int = REGULAR
    method: int = 0
    flags: int = 0x800
    size: int | None = None
    packed: int | None = None
    crc: int | None = None
    body: bytes | None = None
    local_name: bytes | None = None
    local_method: int | None = None
    local_flags: int | None = None
    local_sign: bytes = b"PK\x03\x04"
    local_extra: bytes = b""
    extra: bytes = b""
    comment: bytes = b""
    offset: int | None = None
    disk: int = 0
    central_sign: bytes = b"PK\x01\x02"
    descriptor: bytes = b""

    def packed_body(self) -> bytes:
        if self.body is not None:
            return self.body
        if self.method == 8:
            deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
            return deflater.compress(self.content) + deflater.flush()
        return self.content


@dataclass
class Zip:
    """An archive; numbers left None are told truthfully."""

    entries: list[Entry] = field(default_factory=list)
    prefix: bytes = b""
    count: int | None = None
    count_here: int | None = None
    directory_bytes: int | None = None
    directory_offset: int | None = None
    between: bytes = b""  # between directory and end
    wide: dict[str, int] | None = None  # a 64-bit end record; its numbers may lie
    comment: bytes = b""
    tail: bytes = b""
    disk: int = 0

    def build(self) -> bytes:
        out = bytearray(self.prefix)
        directory = bytearray()
        for entry in self.entries:
            body = entry.packed_body()
            crc = zlib.crc32(entry.content) if entry.crc is None else entry.crc
            size = len(entry.content) if entry.size is None else entry.size
            packed = len(body) if entry.packed is None else entry.packed
            offset = len(out) if entry.offset is None else entry.offset
            local_name = entry.name if entry.local_name is None else entry.local_name
            local_flags = entry.flags if entry.local_flags is None else entry.local_flags
            local_method = entry.method if entry.local_method is None else entry.local_method
            out += entry.local_sign + struct.pack(
                "<5H3L2H",
                20,
                local_flags,
                local_method,
                0,
                33,
                crc,
                min(packed, 0xFFFFFFFF),
                min(size, 0xFFFFFFFF),
                len(local_name),
                len(entry.local_extra),
            )
            out += local_name + entry.local_extra + body + entry.descriptor
            directory += entry.central_sign + struct.pack(
                "<6H3L5H2L",
                3 << 8 | 20,
                20,
                entry.flags,
                entry.method,
                0,
                33,
                crc,
                packed,
                size,
                len(entry.name),
                len(entry.extra),
                len(entry.comment),
                entry.disk,
                0,
                entry.mode << 16,
                offset,
            )
            directory += entry.name + entry.extra + entry.comment
        offset = len(out)
        out += directory + self.between
        count = len(self.entries)
        if self.wide is not None:
            numbers = {
                "count": count,
                "bytes": len(directory),
                "offset": offset,
                "where": len(out),
                "disks": 1,
            }
            numbers |= {"rest": 44, **self.wide}
            out += b"PK\x06\x06" + struct.pack(
                "<Q2H2L4Q",
                numbers["rest"],
                45,
                45,
                0,
                0,
                numbers["count"],
                numbers["count"],
                numbers["bytes"],
                numbers["offset"],
            )
            out += b"PK\x06\x07" + struct.pack("<LQL", 0, numbers["where"], numbers["disks"])
        told = count if self.count is None else self.count
        out += b"PK\x05\x06" + struct.pack(
            "<4H2LH",
            self.disk,
            0,
            told if self.count_here is None else self.count_here,
            told,
            len(directory) if self.directory_bytes is None else self.directory_bytes,
            offset if self.directory_offset is None else self.directory_offset,
            len(self.comment),
        )
        return bytes(out) + self.comment + self.tail


def zip_of(*names: str | bytes, **same: object) -> bytes:
    """Members of these names."""
    entries = [Entry(name.encode() if isinstance(name, str) else name) for name in names]
    for entry in entries:
        for key, value in same.items():
            setattr(entry, key, value)
    return Zip(entries).build()
