"""Files that exist in memory only, as descriptors: programs, and what a program reads."""

import fcntl
import os
from typing import Final


def program_file(content: bytes) -> int:
    """A descriptor of a program that can be run as /proc/self/fd/N, wherever nothing else may be run."""
    descriptor = memory_file(content)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALED)
    return descriptor


_SEALED: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def memory_file(content: bytes) -> int:
    """A descriptor to read `content` from."""
    descriptor = os.memfd_create("discogrid", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
