"""Which absolute paths a job may show its read-only trees at; pure, so that client and agent refuse alike."""

from collections.abc import Sequence

TARGET_BYTES_MAX = 1024
PARTS_MAX = 32

# What every box fills itself: a tree there would hide the system, the task's own folder or its scratch space.
_TAKEN = frozenset(
    {"bin", "dev", "etc", "lib", "lib32", "lib64", "libx32", "local", "proc", "sbin", "sys", "tmp", "usr"}
)


def check_mount_target(target: str) -> str | None:
    """Why no tree may be shown at `target`; None when it may."""
    if not target.startswith("/"):
        return f"{target!r} is not absolute: a mount is seen at the same path by every task, such as /home/codelab"
    if len(target.encode(errors="surrogatepass")) > TARGET_BYTES_MAX:
        return f"the mount target is longer than {TARGET_BYTES_MAX} bytes"
    if not target.isprintable():
        return f"{target!r} holds a character that cannot be printed"
    parts = target[1:].removesuffix("/").split("/")
    if parts == [""]:
        return "'/' is the whole system: choose a folder of its own, such as /home/codelab"
    if len(parts) > PARTS_MAX:
        return f"{target!r} is more than {PARTS_MAX} folders deep"
    if any(part in ("", ".", "..") for part in parts):
        return f"{target!r} is not a plain path: leave out '//', '.' and '..'"
    if parts[0] in _TAKEN:
        return f"{target!r} would hide /{parts[0]}, which the box itself fills: choose another, such as /home/codelab"
    return None


def check_mount_targets(targets: Sequence[str]) -> str | None:
    """Why these trees cannot be shown together; None when they can."""
    for target in targets:
        if reason := check_mount_target(target):
            return reason
    plain = sorted(target.removesuffix("/") for target in targets)
    for outer in plain:
        for inner in plain:
            if inner is not outer and (inner == outer or inner.startswith(outer + "/")):
                return f"one mount would lie inside another: {outer!r} and {inner!r}"
    return None
