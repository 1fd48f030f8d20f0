"""Announce and find grids over zeroconf: a hint where to dial, never a reason to trust.

What is announced is a service `_discogrid._tcp` with an opaque tag of the grid: whoever is a member recognises it,
nobody else learns a name or a state. A fake announcement leads to a dial that CURVE refuses, and delays nothing:
every address that was heard is tried (`whereabouts`).
"""

import asyncio
import logging
import secrets
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from blake3 import blake3

from discogrid.types import NodeId, Role

if TYPE_CHECKING:
    from zeroconf import ServiceStateChange, Zeroconf
    from zeroconf.asyncio import AsyncZeroconf

GRID = "_discogrid._tcp.local."
PAIRING = "_discogrid-pair._tcp.local."
FIND_S = 3.0
RESOLVE_MS = 1500
ASKED_MAX = 256  # services that are asked for their address in one search
ADDRESSES_MAX = 16  # of one service
ADDRESSES_CHECKED_S = 3.0  # a network that comes up, or another address on it, is announced after this
EVERYWHERE = ("0.0.0.0", "*", "[::]", "::")  # noqa: S104 (read, not bound)

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Announced:
    """A service that answered: what it says it is and where it says it listens. Nothing of it is proven."""

    name: str
    properties: dict[str, str]
    endpoints: tuple[str, ...]


def presence_tag(grid: NodeId) -> str:
    """What members of a grid recognise it by: 16 hexadecimal digits that say nothing to others."""
    return blake3(grid.encode(), derive_key_context="discogrid 2026-11 presence tag").hexdigest()[:16]


@asynccontextmanager
async def announced(grid: NodeId, role: Role, port: int, host: str = EVERYWHERE[0]) -> AsyncIterator[bool]:
    """Announce this node while the block runs; yields False where no multicast is to be had, which is no error.

    `host` is where it listens: one address, or all of this machine's, whichever those are at the time.
    """
    properties = {"v": "1", "grid": presence_tag(grid), "role": role.value}
    announcement = Announcement(f"{role.value}-{secrets.token_hex(4)}", properties, port, host)
    async with announcement.standing() as multicast:
        yield multicast


class Announcement:
    """One service on the network, at the addresses that this machine has just now."""

    def __init__(
        self, name: str, properties: dict[str, str], port: int, host: str = EVERYWHERE[0], kind: str = GRID
    ) -> None:
        """`name` and `properties` are read by everybody on the network; `kind` is GRID or PAIRING."""
        self._kind = kind
        self._name = name
        self._properties = properties
        self._port = port
        self._host = host
        self._addresses: list[str] = []
        self._zeroconf: AsyncZeroconf | None = None

    @asynccontextmanager
    async def standing(self) -> AsyncIterator[bool]:
        """Announce while the block runs, at whatever addresses; yields False where there is no multicast."""
        multicast = await self.begin()
        following = asyncio.create_task(self.follow())
        try:
            yield multicast
        finally:
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following
            await self.end()

    async def begin(self) -> bool:
        """Announce; False where no multicast is to be had."""
        from zeroconf import NonUniqueNameException, ServiceInfo

        self._addresses = addresses_of(self._host)
        if (zeroconf := _open()) is None:
            return False
        service = ServiceInfo(
            self._kind,
            f"{self._name}.{self._kind}",
            port=self._port,
            addresses=[socket.inet_aton(address) for address in self._addresses],
            properties=self._properties,
            server=f"{self._name}.local.",
        )
        self._zeroconf = zeroconf
        try:
            await zeroconf.async_register_service(service)
        except (OSError, NonUniqueNameException):
            await self.end()
            return False
        return True

    async def follow(self) -> None:
        """Announce anew whenever the addresses change: a network may come up late, and a lease may run out."""
        while True:
            await asyncio.sleep(ADDRESSES_CHECKED_S)
            if addresses_of(self._host) != self._addresses:
                await self.end()
                await self.begin()
                log.info("announced at %s", ", ".join(self._addresses))

    async def end(self) -> None:
        """Say goodbye."""
        if (zeroconf := self._zeroconf) is not None:
            self._zeroconf = None
            with suppress(OSError):  # the network may be gone already
                await zeroconf.async_unregister_all_services()
            await zeroconf.async_close()


async def services(seconds: float, kind: str = GRID) -> AsyncGenerator[Announced, None]:
    """Every service that answers within `seconds`, once for each thing it says; nothing where there is no multicast."""
    from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo

    if (zeroconf := _open()) is None:
        return
    loop = asyncio.get_running_loop()
    heard: asyncio.Queue[Announced | None] = asyncio.Queue()
    asking: set[asyncio.Task[None]] = set()

    async def ask(name: str) -> None:
        service = AsyncServiceInfo(kind, name)
        if await service.async_request(zeroconf.zeroconf, RESOLVE_MS) and service.port is not None:
            addresses = service.parsed_scoped_addresses()[:ADDRESSES_MAX]
            heard.put_nowait(
                Announced(
                    name.removesuffix(f".{kind}"),
                    {_text(key): _text(value) for key, value in service.properties.items()},
                    tuple(f"tcp://{_host(address)}:{service.port}" for address in addresses),
                )
            )

    def changed(
        zeroconf: "Zeroconf", service_type: str, name: str, state_change: "ServiceStateChange"
    ) -> None:
        del zeroconf, service_type
        if state_change.name != "Removed" and len(asking) < ASKED_MAX:
            asking.add(loop.create_task(ask(name)))

    ending = loop.call_later(seconds, heard.put_nowait, None)
    browser = AsyncServiceBrowser(zeroconf.zeroconf, kind, handlers=[changed])
    try:
        while (answer := await heard.get()) is not None:
            yield answer
    finally:
        ending.cancel()
        await browser.async_cancel()
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await zeroconf.async_close()


async def members(grid: NodeId, role: Role, seconds: float = FIND_S) -> AsyncGenerator[Announced, None]:
    """Every service that says that it belongs to this grid in this role, which anybody can say."""
    wanted = {"grid": presence_tag(grid), "role": role.value}
    async with aclosing(services(seconds)) as answers:
        async for answer in answers:
            if wanted.items() <= answer.properties.items():
                yield answer


def addresses_of(host: str) -> list[str]:
    """The IPv4 addresses at which others reach what listens at `host`."""
    return own_addresses() if host in EVERYWHERE else [host]


def own_addresses() -> list[str]:
    """This machine's IPv4 addresses, self-assigned ones and loopback only when there is no other."""
    import ifaddr

    found = [str(ip.ip) for adapter in ifaddr.get_adapters() for ip in adapter.ips if ip.is_IPv4]
    reachable = [address for address in found if not address.startswith("127.")]
    given = [address for address in reachable if not address.startswith("169.254.")]
    return given or reachable or ["127.0.0.1"]


def _open() -> "AsyncZeroconf | None":
    """Sockets on all networks of this machine; None where there is no multicast."""
    from zeroconf.asyncio import AsyncZeroconf

    try:
        return AsyncZeroconf()
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no network at all, not even loopback
        log.debug("no multicast: %s", error)
        return None


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _text(value: bytes | None) -> str:
    return (value or b"").decode(errors="replace")
