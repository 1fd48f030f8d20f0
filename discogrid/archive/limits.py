"""What an archive may hold at most."""

from dataclasses import dataclass

from discogrid.types import GIB, MIB

MEMBERS_MAX = 65_536  # files and folders in one archive
MEMBER_BYTES_MAX = 64 * GIB  # unpacked, one file
TOTAL_BYTES_MAX = 256 * GIB  # unpacked, all files
DIRECTORY_BYTES_MAX = 32 * MIB  # of the central directory, read in one piece
RATIO_MAX = 200  # unpacked bytes a packed byte; the writer stores what would shrink by half of this
RATIO_FREE_BYTES = 64 * 1024  # a member this small may shrink as it likes


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """What a reader accepts and a writer makes; sizes in bytes, unpacked."""

    members: int = MEMBERS_MAX
    member_bytes: int = MEMBER_BYTES_MAX
    total_bytes: int = TOTAL_BYTES_MAX


DEFAULT_LIMITS = ArchiveLimits()
