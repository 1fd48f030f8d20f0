"""A resolver: `names.py ADDRESS NAME=ADDRESS…` answers by UDP and TCP, and says of every other name that there is none."""

import ipaddress
import selectors
import socket
import struct
import sys

KINDS = {4: 1, 6: 28}  # A, AAAA
RESPONSE, NO_SUCH_NAME = 0x8180, 3


def answer(question: bytes, known: dict[str, list[str]]) -> bytes:
    at, labels = 12, []
    while question[at]:
        labels.append(question[at + 1 : at + 1 + question[at]].decode())
        at += 1 + question[at]
    (kind,) = struct.unpack_from(">H", question, at + 1)
    name = ".".join(labels).lower()
    found = [each for each in map(ipaddress.ip_address, known.get(name, [])) if KINDS[each.version] == kind]
    flags = RESPONSE | (0 if name in known else NO_SUCH_NAME)
    head = question[:2] + struct.pack(">HHHHH", flags, 1, len(found), 0, 0)
    records = [struct.pack(">HHHIH", 0xC00C, kind, 1, 60, len(each.packed)) + each.packed for each in found]
    return head + question[12 : at + 5] + b"".join(records)


def main() -> None:
    known: dict[str, list[str]] = {}
    for told in sys.argv[2:]:
        name, _, address = told.partition("=")
        known.setdefault(name, []).append(address)
    called = socket.create_server((sys.argv[1], 53))
    asked = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    asked.bind((sys.argv[1], 53))
    waiting = selectors.DefaultSelector()
    for one in (called, asked):
        waiting.register(one, selectors.EVENT_READ)
    print("serving", flush=True)
    while True:
        for key, _ in waiting.select():
            if key.fileobj is asked:
                question, who = asked.recvfrom(2000)
                asked.sendto(answer(question, known), who)
            else:
                with called.accept()[0] as caller:
                    size = struct.unpack(">H", caller.recv(2))[0]
                    said = answer(caller.recv(size), known)
                    caller.sendall(struct.pack(">H", len(said)) + said)


main()
