"""What this machine offers to scripts: importable modules and programs, by name."""

import os
import pkgutil
import sys

from discogrid.programs import find_ffmpeg
from discogrid.types import python_capability

NAMES_BYTES_MAX = 40_000  # together; a hello must fit its header
NAMES_MAX = 4_000
PROGRAM_FOLDERS = ("/usr/local/bin", "/usr/bin", "/bin")  # what a box shows


def capabilities() -> frozenset[str]:
    """Names of top-level modules of this interpreter that do not come with Python, and of programs on the task's PATH."""
    from importlib.metadata import (
        packages_distributions,
    )  # with it the readers of mail, beside which an agent can serve

    standard = sys.stdlib_module_names
    modules = {module.name for module in pkgutil.iter_modules() if module.name not in standard}
    # Namespace packages have no file of their own; those who installed them say so.
    modules.update(name for name in packages_distributions() if name.isidentifier() and name not in standard)
    programs = {name for folder in PROGRAM_FOLDERS if os.path.isdir(folder) for name in os.listdir(folder)}
    if find_ffmpeg() is not None:
        modules.add("ffmpeg")
    kept: list[str] = [python_capability(sys.version_info[0], sys.version_info[1])]
    room = NAMES_BYTES_MAX
    for name in [*sorted(modules), *sorted(programs - modules)]:
        room -= len(name) + 3
        if room < 0 or len(kept) == NAMES_MAX:
            break
        kept.append(name)
    return frozenset(kept)


def memory_bytes() -> int:
    """This machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def cpu_count() -> int:
    """The processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
