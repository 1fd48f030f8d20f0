"""Memory that a process keeps when it lets go of large values: to get pages anew takes longer than to fill them."""

from contextlib import suppress
from functools import cache

KEPT_BYTES_MAX = 64 << 20  # that are free at the end of the heap
BLOCK_BYTES_MAX = 32 << 20  # of a value whose memory is kept: glibc has no more
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)


@cache
def keep_memory() -> None:
    """From now on, where the C library is one that can. Not in a program that is not our own."""
    import ctypes  # which most processes have no use for

    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_THRESHOLD, BLOCK_BYTES_MAX)
        library.mallopt(_TRIM_THRESHOLD, KEPT_BYTES_MAX)
