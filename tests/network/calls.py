"""Runs as a task, or beside it on its host: calls others in every way there is, and prints who answered.

Given: its interface, and as JSON by name: how, whom, at which port.
"""

import contextlib
import json
import socket
import struct
import sys
import threading

INTERFACE, CALLS = sys.argv[1], json.loads(sys.argv[2])
HERE = b"here"
PATIENCE_S = 3.0
BIND_TO_INTERFACE = 25  # SO_BINDTODEVICE
PACKET_BY_INTERFACE = {socket.AF_INET: (socket.IPPROTO_IP, 8), socket.AF_INET6: (socket.IPPROTO_IPV6, 50)}


def made(kind: int, host: str, how: str) -> socket.socket:
    new = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
    new.settimeout(PATIENCE_S)
    if "bound" in how:
        new.setsockopt(socket.SOL_SOCKET, BIND_TO_INTERFACE, INTERFACE.encode())
    return new


def by_stream(how: str, host: str, port: int) -> bool:
    with made(socket.SOCK_STREAM, host, how) as caller:
        caller.connect((host, port))
        return caller.recv(10) == HERE


def by_datagram(how: str, host: str, port: int) -> bool:
    index = socket.if_nametoindex(INTERFACE)
    with made(socket.SOCK_DGRAM, host, how) as caller:
        level, kind = PACKET_BY_INTERFACE[caller.family]
        said: list[tuple[int, int, bytes]] = []
        if "by interface" in how:  # the packet itself names the interface
            chosen = (
                struct.pack("=i8x", index) if caller.family == socket.AF_INET else struct.pack("=16xi", index)
            )
            said.append((level, kind, chosen))
        elif "to many" in how:
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            if caller.family == socket.AF_INET:
                chosen = struct.pack("=8xi", index)
                caller.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, chosen)
                caller.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 9)
            else:
                caller.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
                caller.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 9)
        flags = 4 if "unrouted" in how else 0  # MSG_DONTROUTE
        caller.sendmsg([b"hello"], said, flags, (host, port))
        return caller.recv(10) == HERE


def by_name(_: str, host: str, port: int) -> bool:
    with socket.create_connection((host, port), PATIENCE_S) as caller:
        return caller.recv(10) == HERE


WAYS = {"stream": by_stream, "datagram": by_datagram, "name": by_name}
answered: dict[str, bool] = {}


def call(name: str, how: str, host: str, port: int) -> None:
    answered[name] = False
    with contextlib.suppress(OSError):
        answered[name] = WAYS[how.split(maxsplit=1)[0]](how, host, port)


calls = [threading.Thread(target=call, args=(name, *given)) for name, given in CALLS.items()]
for each in calls:
    each.start()
for each in calls:
    each.join()
print(json.dumps(answered))
