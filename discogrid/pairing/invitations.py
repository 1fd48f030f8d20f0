"""What a grid's owner has offered to whoever knows a secret: for how long, how often, and whether it still stands."""

from dataclasses import dataclass, field, replace

from discogrid.pairing.frames import Reason
from discogrid.types import Role

CODE_S = 600.0
TOKEN_S = 24 * 3600.0
TOKEN_S_MAX = 30 * 86400.0
USES_MAX = 1000


@dataclass(frozen=True, slots=True)
class Invitation:
    """A secret and what it is good for. Times are the loop's seconds; `roles` empty grants what the joiner asks for."""

    nameplate: str
    password: bytes = field(repr=False)
    expires: float
    uses: int = 1
    guessable: bool = True  # a short code: the first wrong guess ends it
    roles: frozenset[Role] = frozenset()
    burnt: bool = False

    def ended(self, now: float) -> Reason | None:
        """Why nobody can join by it any more; None while somebody can."""
        if self.burnt:
            return Reason.BURNT
        if self.uses == 0:
            return Reason.USED
        return Reason.EXPIRED if now >= self.expires else None

    def used(self) -> "Invitation":
        """With one use less."""
        return replace(self, uses=self.uses - 1)

    def guessed_wrong(self) -> "Invitation":
        """After a wrong guess: burnt if guessing could ever succeed."""
        return replace(self, burnt=self.burnt or self.guessable)
