"""Runs as a task: holds ever more connections, to the first that is refused, and prints how many that were.

Given: its interface, and as JSON whom to call, at which port, how often at most.
"""

import contextlib
import json
import socket
import sys

PATIENCE_S = 5.0
HOST, PORT, MOST = json.loads(sys.argv[2])
HERE = b"here"

held: list[socket.socket] = []
with contextlib.suppress(OSError):
    while len(held) < MOST:
        made = socket.create_connection((HOST, PORT), PATIENCE_S)
        if made.recv(10) != HERE:
            break
        held.append(made)
print(len(held))
