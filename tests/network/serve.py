"""Answers `here` to whoever calls by TCP, UDP, multicast or broadcast: `serve.py PORT GROUP-4 GROUP-6 INTERFACE…`."""

import contextlib
import selectors
import socket
import struct
import sys

HERE = b"here"


def main() -> None:
    port, group_4, group_6 = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    called = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    told = [socket.socket(family, socket.SOCK_DGRAM) for family in (socket.AF_INET, socket.AF_INET6)]
    told[1].setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    for made, everywhere in zip(told, ("0.0.0.0", "::"), strict=True):
        made.bind((everywhere, port))
    for index in map(socket.if_nametoindex, sys.argv[4:]):
        joined = socket.inet_aton(group_4) + struct.pack("=Ii", 0, index)
        told[0].setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, joined)
        joined = socket.inet_pton(socket.AF_INET6, group_6) + struct.pack("=i", index)
        told[1].setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, joined)
    waiting = selectors.DefaultSelector()
    for one in (called, *told):
        waiting.register(one, selectors.EVENT_READ)
    print("serving", flush=True)
    while True:
        for key, _ in waiting.select():
            with contextlib.suppress(OSError):
                if key.fileobj is called:
                    with called.accept()[0] as caller:
                        caller.sendall(HERE)
                else:
                    assert isinstance(key.fileobj, socket.socket)
                    _, who = key.fileobj.recvfrom(100)
                    key.fileobj.sendto(HERE, who)


main()
