"""Who else is about to pair on this network: what is said of that, which proves nothing."""

from contextlib import aclosing
from urllib.parse import urlsplit

from discogrid.discovery import FIND_S, PAIRING, services
from discogrid.trust.owner import printable_name

ASKS = "to be adopted"
ASKING_MAX = 256
SHOWN_S = 0.5  # answers to such a question are spread over a tenth of a second


async def asking(seconds: float = FIND_S) -> list[tuple[str, str]]:
    """Name and address of the machines on this network that ask within `seconds`, in order of name."""
    found: set[tuple[str, str]] = set()
    async with aclosing(services(seconds, PAIRING)) as answers:
        async for answer in answers:
            if answer.properties.get("asks") == ASKS and answer.endpoints and len(found) < ASKING_MAX:
                host = urlsplit(answer.endpoints[0]).hostname or ""
                found.add((printable_name(answer.properties.get("name", "")), host))
    return sorted(found)


async def nameplates(seconds: float = SHOWN_S) -> frozenset[str]:
    """The nameplates of the codes that are shown on this network: who types one of them must not burn another."""
    async with aclosing(services(seconds, PAIRING)) as answers:
        return frozenset([answer.properties.get("plate", "") async for answer in answers])
