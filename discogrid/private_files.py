"""Files that only their owner reads, replaced as a whole: a reader finds the old content or the new, never a mix."""

import os
from pathlib import Path


def replace_file(file: Path, content: bytes) -> None:
    """Write the file for its owner only, durably; OSError when that fails, and the old content stays."""
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as written:
            written.write(content)
            written.flush()
            os.fsync(written.fileno())
        draft.replace(file)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def new_file(file: Path, owner: tuple[int, int] | None = None) -> int:
    """An empty one where nothing is, for its owner only, or for this user and group. Its descriptor, to read and write by."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        if owner is not None:
            os.fchown(descriptor, *owner)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
