"""A call that is a worker for its caller: on one machine, calls may go straight from a program to where they run.

The grid decides how many such seats a program has, and when; whatever passes between the two passes a socket file.
"""

import contextlib
import os
import socket
from collections.abc import Sequence

from discogrid.calls.worker import serve

TICKET_BYTES = 16
NUMBER_BYTES = 8
TRAYS = 2
WELCOME = b"!"


def sit(address: str, ticket: bytes, number: int, slate: str) -> None:
    """Answer the calls of the program that listens at `address`, until it hangs up. It knows the seat by its number."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.connect(address)
        line.sendall(ticket + number.to_bytes(NUMBER_BYTES, "little"))
        line.setblocking(True)
        with contextlib.ExitStack() as closing:
            _, trays, _, _ = socket.recv_fds(line, 1, TRAYS)
            for tray in trays:
                closing.callback(os.close, tray)
                os.set_inheritable(tray, False)
            both = (trays[0], trays[1]) if len(trays) == TRAYS else None
            serve(line.fileno(), line.fileno(), slate, both, keeps_memory=True)


def give_trays(line: socket.socket, trays: Sequence[int]) -> None:
    """The caller's first word to a seat: its trays for arguments and results, or none. OSError where the line is broken."""
    socket.send_fds(line, [WELCOME], trays)


def private_folder() -> str:
    """Where the socket file of a program lies: a folder that is its user's alone, with a name short enough for one."""
    import tempfile

    folder = tempfile.mkdtemp(prefix="discogrid-")
    os.chmod(folder, 0o700)
    return folder
