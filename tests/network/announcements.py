"""What was said over multicast in captured frames: every question and record of mDNS (RFC 6762), taken apart."""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from zeroconf._dns import DNSAddress, DNSNsec, DNSPointer, DNSService, DNSText
from zeroconf._protocol.incoming import DNSIncoming

IPV4 = b"\x08\x00"
UDP = 17
MDNS_PORT = 5353


RANDOM = re.compile(r"[0-9a-f]{8}")


@dataclass
class Said:
    """Each service as `(its name, its host, its port, its addresses, its text)`, once for each thing it ever said.

    Eight random hexadecimal digits in a name are a `*`.
    """

    names: set[str] = field(default_factory=set)  # all that were said, in questions too
    hosts: dict[str, tuple[str, int]] = field(default_factory=dict)
    addresses: dict[str, set[str]] = field(default_factory=dict)
    texts: set[tuple[str, bytes]] = field(default_factory=set)
    others: list[str] = field(default_factory=list)  # what has no place above

    def services(self) -> list[tuple[str, str, int, list[str], dict[str, str]]]:
        found = []
        for name, text in self.texts:
            host, port = self.hosts[name]
            addresses = sorted(self.addresses[host])
            found.append((RANDOM.sub("*", name), RANDOM.sub("*", host), port, addresses, fields(text)))
        return sorted(found, key=str)


def said(frames: Path) -> Said:
    """All that mDNS said in a file of frames, whoever said it."""
    all_said = Said()
    for packet in packets(frames):
        message = DNSIncoming(packet)
        assert message.valid
        all_said.names |= {question.name for question in message.questions}
        for record in message.answers():
            all_said.names.add(record.name)
            match record:
                case DNSPointer():
                    all_said.names.add(record.alias)
                case DNSService():
                    all_said.hosts[record.name] = (record.server, record.port)
                    all_said.names.add(record.server)
                case DNSText():
                    all_said.texts.add((record.name, record.text))
                case DNSAddress():
                    all_said.addresses.setdefault(record.name, set()).add(
                        ".".join(str(part) for part in record.address)
                    )
                case DNSNsec():
                    pass  # says that there is no more of a name that was said
                case _:
                    all_said.others.append(repr(record))
    return all_said


def fields(text: bytes) -> dict[str, str]:
    """The entries of a TXT record, all of its bytes."""
    found: dict[str, str] = {}
    while text:
        length, text = text[0], text[1:]
        key, _, value = text[:length].decode().partition("=")
        assert key not in found
        found[key] = value
        text = text[length:]
    return found


def packets(frames: Path) -> Iterator[bytes]:
    """The payloads of mDNS."""
    content = frames.read_bytes()
    at = 0
    while at < len(content):
        (length,) = struct.unpack_from("=I", content, at)
        frame = content[at + 4 : at + 4 + length]
        at += 4 + length
        if frame[12:14] != IPV4 or frame[14 + 9] != UDP:
            continue
        transport = frame[14 + (frame[14] & 15) * 4 :]
        source, target, size = struct.unpack_from("!HHH", transport)
        if MDNS_PORT in (source, target):
            yield transport[8:size]
