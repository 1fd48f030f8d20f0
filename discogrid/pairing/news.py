"""What the grid's side hears of an invitation."""

from dataclasses import dataclass

from discogrid.errors import DiscogridError
from discogrid.trust.roster import Member


@dataclass(frozen=True, slots=True)
class Joined:
    """A machine has joined; `kept` says whether it confirmed that it has stored what it needs."""

    member: Member
    kept: bool


@dataclass(frozen=True, slots=True)
class GuessedWrong:
    """Somebody at `source` did not know the secret, or stands in the middle."""

    nameplate: str
    source: str
    burnt: bool


@dataclass(frozen=True, slots=True)
class Trouble:
    """A machine knew the secret and could not be let in."""

    error: DiscogridError


News = Joined | GuessedWrong | Trouble
