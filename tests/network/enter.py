"""Runs a command on a host of the world: `enter.py PROCESS USER COMMAND…`. What it is told to end, the command is told.

USER is `user` for who started the tests, with what such a user may do, or `owner` for root of the host.
"""

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

# Run by its path: `-m` would need the project's folder to work in.
from tests.network import namespaces

PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main() -> None:
    process, user, *command = sys.argv[1:]
    folder, who = Path.cwd(), os.geteuid()
    alien = os.stat(f"/proc/{process}/ns/user").st_ino != os.stat("/proc/self/ns/user").st_ino
    namespaces.enter(int(process), *(["user"] if alien else []), "net", "uts", "ipc", "pid", "mnt")
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
    parent = os.getpid()
    if (child := os.fork()) == 0:
        namespaces.die_with_parent(parent)
        if alien and user == "user":
            namespaces.become(who, 0, 0)
        os.chdir(folder)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
        os.execvp(command[0], command)
    for number in PASSED_ON:
        signal.signal(number, lambda number, _: os.kill(child, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os._exit(code if code >= 0 else 128 - code)


main()
