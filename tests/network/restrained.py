"""Runs a command where no network can be made, on what says to be another system: `restrained.py OS_RELEASE COMMAND…`."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

# Run by its path: `-m` would need the project's folder to work in.
from tests.network import namespaces


def main() -> None:
    release, *command = sys.argv[1:]
    namespaces.become(0, os.geteuid(), os.getegid())
    namespaces.unshare(namespaces.MOUNTS)
    namespaces.keep_mounts()
    namespaces.cover(Path("/etc/os-release").resolve(), Path(release))
    Path("/proc/sys/user/max_net_namespaces").write_text("0")  # of this user namespace and those below
    os.execvp(command[0], command)


main()
