"""Machines without a grid that ask to be adopted: what they say of themselves, which proves nothing."""

from contextlib import aclosing
from urllib.parse import urlsplit

from discogrid.discovery import FIND_S, PAIRING, services
from discogrid.trust.owner import printable_name

ASKS = "to be adopted"
ASKING_MAX = 256


async def asking(seconds: float = FIND_S) -> list[tuple[str, str]]:
    """Name and address of the machines on this network that ask within `seconds`, in order of name."""
    found: set[tuple[str, str]] = set()
    async with aclosing(services(seconds, PAIRING)) as answers:
        async for answer in answers:
            if answer.properties.get("asks") == ASKS and answer.endpoints and len(found) < ASKING_MAX:
                host = urlsplit(answer.endpoints[0]).hostname or ""
                found.add((printable_name(answer.properties.get("name", "")), host))
    return sorted(found)
