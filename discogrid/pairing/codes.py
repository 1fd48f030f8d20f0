"""The short code: a nameplate that says where to ask, and two words that nobody else knows.

Two of 256 words are 16 bits. That is enough because a guess needs the other side's answer and the first wrong one burns
the code: see docs/adr/0013.
"""

import difflib
import re
from dataclasses import dataclass, field

from discogrid.errors import UsageError
from discogrid.pairing.addresses import Address, parse_address
from discogrid.pairing.words import WORDS

NAMEPLATE_MAX = 99
TEXT_CHARS_MAX = 400
EXAMPLE = "4-crater-mango"

_PARTS = re.compile(r"\d+|[^\W\d_]+")


@dataclass(frozen=True, slots=True)
class Code:
    """What is shown on one machine and typed on the other. The words stay out of logs: `repr` does not show them."""

    nameplate: str
    words: tuple[str, str] = field(repr=False)

    def __str__(self) -> str:
        """`4-crater-mango`."""
        return "-".join((self.nameplate, *self.words))

    @property
    def password(self) -> bytes:
        """What the key exchange is keyed with."""
        return f"code {self}".encode()


@dataclass(frozen=True, slots=True)
class Target:
    """A code, and where to try it if somebody said so."""

    code: Code
    address: Address | None = None


def new_code(nameplate: int, entropy: bytes) -> Code:
    """The code with this nameplate and the words that two random bytes choose."""
    first, second = entropy
    return Code(str(nameplate), (WORDS[first], WORDS[second]))


def parse_target(text: str) -> Target:
    """`CODE` or `CODE@HOST:PORT`; UsageError says what is wrong with it."""
    code, at, address = text[:TEXT_CHARS_MAX].partition("@")
    return Target(parse_code(code), parse_address(address) if at else None)


def parse_code(text: str) -> Code:
    """The code in what a person typed: case, spaces and the kind of dash do not matter. UsageError names the wrong part.

    A word that is not in the list is found here, before anything is sent: it costs no guess.
    """
    parts = _PARTS.findall(text[:TEXT_CHARS_MAX].casefold())
    if len(parts) != 3 or not (parts[0].isascii() and parts[0].isdigit()):
        raise UsageError(
            f"{text[:TEXT_CHARS_MAX]!r} is no code",
            why=f"A code is a number and two words, such as {EXAMPLE}.",
            fix="Type what the other machine shows. Nothing was sent: the code is as good as before.",
        )
    nameplate = parts[0].lstrip("0")
    if not nameplate or len(nameplate) > 2:
        raise UsageError(
            f"a code does not begin with {parts[0][:20]}", why=f"Its number is from 1 to {NAMEPLATE_MAX}."
        )
    return Code(nameplate, (_word(parts[1]), _word(parts[2])))


def _word(typed: str) -> str:
    if typed in WORDS:
        return typed
    near = difflib.get_close_matches(typed, WORDS, 2, 0.6)
    raise UsageError(
        f"{typed[:40]!r} is no word of a code",
        why=f"Did you mean {' or '.join(near)}?" if near else "",
        fix="Look at the other machine again. Nothing was sent: the code is as good as before.",
    )
