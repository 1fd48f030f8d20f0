"""Announce and find grids over zeroconf: a hint where to dial, never a reason to trust.

What is announced is a service `_discogrid._tcp` with an opaque tag of the grid: whoever is a member recognises it,
nobody else learns a name or a state. A fake announcement leads to a dial that CURVE refuses.
"""

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blake3 import blake3

from discogrid.types import NodeId, Role

if TYPE_CHECKING:
    from zeroconf import ServiceStateChange, Zeroconf

SERVICE = "_discogrid._tcp.local."
FIND_S = 3.0
RESOLVE_MS = 1500
FOUND_MAX = 64


@dataclass(frozen=True, slots=True)
class Announced:
    """A service that answered: where it says it listens."""

    endpoint: str
    role: str


def presence_tag(grid: NodeId) -> str:
    """What members of a grid recognise it by: 16 hexadecimal digits that say nothing to others."""
    return blake3(grid.encode(), derive_key_context="discogrid 2026-11 presence tag").hexdigest()[:16]


@asynccontextmanager
async def announced(
    grid: NodeId, role: Role, port: int, addresses: list[str] | None = None
) -> AsyncIterator[bool]:
    """Announce this node while the block runs; yields False where no multicast is to be had, which is no error.

    `addresses` are IPv4 addresses as text; None announces all of this machine's.
    """
    from zeroconf import NonUniqueNameException, ServiceInfo
    from zeroconf.asyncio import AsyncZeroconf

    name = f"{role.value}-{secrets.token_hex(4)}"
    try:
        zeroconf = AsyncZeroconf()
    except OSError:
        yield False
        return
    service = ServiceInfo(
        SERVICE,
        f"{name}.{SERVICE}",
        port=port,
        addresses=[socket.inet_aton(address) for address in addresses or own_addresses()],
        properties={"v": "1", "grid": presence_tag(grid), "role": role.value},
        server=f"{name}.local.",
    )
    try:
        await zeroconf.async_register_service(service)
    except (OSError, NonUniqueNameException):
        await zeroconf.async_close()
        yield False
        return
    try:
        yield True
    finally:
        await zeroconf.async_unregister_service(service)
        await zeroconf.async_close()


async def find(grid: NodeId, role: Role, seconds: float = FIND_S) -> Announced | None:
    """The first service of this grid and role that answers within `seconds`."""
    from zeroconf import ServiceStateChange
    from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

    try:
        zeroconf = AsyncZeroconf()
    except OSError:
        return None
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Announced] = loop.create_future()
    tag = presence_tag(grid).encode()
    asking: set[asyncio.Task[None]] = set()

    async def ask(kind: str, name: str) -> None:
        service = AsyncServiceInfo(kind, name)
        if not await service.async_request(zeroconf.zeroconf, RESOLVE_MS) or service.port is None:
            return
        addresses = service.parsed_addresses()
        if (
            service.properties.get(b"grid") == tag
            and service.properties.get(b"role") == role.value.encode()
            and addresses
        ):
            address = next((found for found in addresses if ":" not in found), f"[{addresses[0]}]")
            if not answer.done():
                answer.set_result(Announced(f"tcp://{address}:{service.port}", role.value))

    def changed(
        zeroconf: "Zeroconf", service_type: str, name: str, state_change: "ServiceStateChange"
    ) -> None:
        del zeroconf
        if state_change is not ServiceStateChange.Removed and len(asking) < FOUND_MAX:
            asking.add(loop.create_task(ask(service_type, name)))

    browser = AsyncServiceBrowser(zeroconf.zeroconf, SERVICE, handlers=[changed])
    try:
        return await asyncio.wait_for(answer, seconds)
    except TimeoutError:
        return None
    finally:
        await browser.async_cancel()
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await zeroconf.async_close()


def own_addresses() -> list[str]:
    """This machine's IPv4 addresses, loopback only when there is no other."""
    import ifaddr

    found = [str(ip.ip) for adapter in ifaddr.get_adapters() for ip in adapter.ips if ip.is_IPv4]
    reachable = [address for address in found if not address.startswith("127.")]
    return reachable or ["127.0.0.1"]
