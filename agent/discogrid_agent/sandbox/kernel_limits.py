"""What the kernel itself enforces on every process of a box."""

import os
import resource
from contextlib import suppress
from typing import Final

from discogrid.types import Limits

OPEN_FILES: Final = 4096  # descriptors of one process
# Above the limit, so that a task that goes over it is seen and stopped by name, not only refused its fork.
PROCESSES_MARGIN: Final = 16
_FIRST_TO_GO: Final = b"1000"  # oom_score_adj


def kernel_limits(limits: Limits) -> dict[int, int]:
    """A value by the kind of limit; no more than the agent itself may have."""
    return _allowed(
        {
            resource.RLIMIT_CORE: 0,
            resource.RLIMIT_DATA: limits.memory_bytes,
            resource.RLIMIT_FSIZE: limits.disk_bytes,
            resource.RLIMIT_NOFILE: OPEN_FILES,
        }
    )


def box_limits(limits: Limits) -> dict[int, int]:
    """These and the number of processes, which must be set in a user namespace: elsewhere all of the owner's count."""
    processes = limits.processes + PROCESSES_MARGIN
    return {**kernel_limits(limits), **_allowed({resource.RLIMIT_NPROC: processes})}


def set_limits(process: int, wanted: dict[int, int]) -> None:
    """Set them on `process` and all that it will start."""
    for kind, value in wanted.items():
        try:
            resource.prlimit(process, kind, (value, value))
        except (ValueError, PermissionError):  # the agent itself may have less
            hard = resource.prlimit(process, kind)[1]
            resource.prlimit(process, kind, (min(value, hard), min(value, hard)))


def let_go_first(process: int) -> None:
    """Out of memory, the kernel takes this process, and what it starts, before a program of the owner."""
    with suppress(OSError):
        descriptor = os.open(f"/proc/{process}/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, _FIRST_TO_GO)
        finally:
            os.close(descriptor)


def _allowed(wanted: dict[int, int]) -> dict[int, int]:
    hard = {kind: resource.getrlimit(kind)[1] for kind in wanted}
    return {
        kind: value if hard[kind] == resource.RLIM_INFINITY else min(value, hard[kind])
        for kind, value in wanted.items()
    }
