"""Where the side that shows a code listens."""

from dataclasses import dataclass

from discogrid.errors import UsageError

PORT_DEFAULT = 7718
HOST_CHARS_MAX = 255


@dataclass(frozen=True, slots=True)
class Address:
    """A host, by name or number, and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        """`attic.local:7718`, `[fe80::1]:7718`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str, port_default: int = PORT_DEFAULT) -> Address:
    """`host`, `host:port` or `[v6]:port`; UsageError for anything else."""
    host, separator, port = text.strip().rpartition(":")
    if not separator or port.endswith("]"):
        host, port = text.strip(), str(port_default)
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    plain = bare.isprintable() and not set(bare) & set(" /@[]") and 0 < len(bare) <= HOST_CHARS_MAX
    if not (plain and (":" not in bare or bare != host)) or not (port.isascii() and port.isdigit()):
        raise UsageError(f"{text!r} is no address", fix="Write HOST:PORT, such as attic.local:7718.")
    if len(port) > 5 or int(port) > 65535:
        raise UsageError(f"{text!r} is no address", fix="A port is a number up to 65535.")
    return Address(bare, int(port))
