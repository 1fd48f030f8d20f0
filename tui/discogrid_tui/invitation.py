"""An invitation that is shown: its code, what to type where, who asks and who came, as labelled lines. Pure."""

from dataclasses import dataclass, replace
from typing import Final

from discogrid.errors import DiscogridError
from discogrid.pairing.frames import Reason
from discogrid_tui.text import duration, printable

ASKING_MAX = 8  # machines that are named; the others are counted
NEWS_MAX = 8  # the newest

Line = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Invitation:
    """What is known of one invitation; nothing yet before it is open."""

    code: str = ""
    address: str = ""  # to be typed behind the code where it is not found
    found: bool = True  # whether there is multicast to find it by
    expires: float = 0.0  # seconds since 1970
    asking: tuple[tuple[str, str], ...] = ()  # name and address of machines that ask to be adopted
    news: tuple[Line, ...] = ()
    end: str = ""  # why nobody can join by it any more

    def opened(self, code: str, address: str, expires: float, *, found: bool) -> "Invitation":
        """From here on somebody can join by it."""
        return replace(self, code=code, address=address, expires=expires, found=found)

    def joined(self, name: str, roles: tuple[str, ...], node: str, *, kept: bool) -> "Invitation":
        """A machine has; `kept` says whether it confirmed that it has stored what it needs."""
        line = ("joined", f"{printable(name)} as {' and '.join(roles)}: {node}")
        return self._with(line, *([] if kept else [("", "It has not confirmed that it kept what it needs.")]))

    def guessed_wrong(self, source: str) -> "Invitation":
        """Somebody at `source` did not know the code."""
        return self._with(
            ("wrong guess", f"from {printable(source)}, by a mistake or by somebody in the middle")
        )

    def not_let_in(self, error: DiscogridError) -> "Invitation":
        """A machine that knew the code."""
        return self._with(("not let in", printable(error.what)))

    def failed(self, error: DiscogridError) -> "Invitation":
        """It could not be opened, or not be kept open."""
        return self._with(("error", error.what), *([("do", error.fix)] if error.fix else []))

    def asked(self, machines: list[tuple[str, str]]) -> "Invitation":
        """By these machines just now."""
        return replace(self, asking=tuple(machines))

    def ended(self, reason: Reason) -> "Invitation":
        """Nobody can join by it any more."""
        return replace(self, end=_ENDS.get(reason, reason.value))

    def lines(self, now: float) -> list[Line]:
        """Label and value, a line each; `now` in seconds since 1970."""
        if not self.code:
            return list(self.news) or [("code", "…")]
        if self.end:
            return [("ended", self.end), *self.news]
        return [
            ("code", self.code),
            ("to lend", f"discogrid agent --join {self.code}"),
            ("to submit", f"discogrid join {self.code}"),
            *self._elsewhere(),
            ("good for", f"one machine and {duration(max(0.0, self.expires - now))}, while this is shown"),
            *self._asking(),
            *self.news,
        ]

    def _with(self, *lines: Line) -> "Invitation":
        return replace(self, news=(*self.news, *lines)[-NEWS_MAX:])

    def _elsewhere(self) -> list[Line]:
        if not self.address:
            return []
        return [("if not found" if self.found else "in full", f"{self.code}@{self.address}")]

    def _asking(self) -> list[Line]:
        shown = [f"{printable(name)} at {printable(address)}" for name, address in self.asking[:ASKING_MAX]]
        if more := len(self.asking) - len(shown):
            shown.append(f"{more} more")
        return [("asks to join", line) for line in shown] or [("asks to join", "nobody on this network")]


_ENDS: Final = {
    Reason.USED: "the code is used",
    Reason.BURNT: "the code was burnt by a wrong guess; it opens nothing any more",
    Reason.EXPIRED: "the code has expired",
}
