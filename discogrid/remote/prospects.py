"""Whether calls can run on a grid, and what is said to who waits for them."""

import sys
from typing import Final

from discogrid.errors import NoAgentFits, VersionMismatch
from discogrid.grid import Grid
from discogrid.messages import Answer, Query
from discogrid.session import Session
from discogrid.types import JobId
from discogrid.views import AgentView

PAGE_AGENTS: Final = 256
REASONS_MAX: Final = 8  # agents of which it is said why not
REASON_CHARACTERS_MAX: Final = 200
NOBODY: Final = "is there now; calls wait for one"


class Prospects:
    """Those of the calls of one job."""

    def __init__(self, grid: Grid, python: tuple[int, int], *, bare: bool) -> None:
        """`python` is the version that makes the calls; `bare` calls do not mind which one runs them."""
        self._grid = grid
        self._python = python
        self._bare = bare

    async def check(self, session: Session, job: JobId) -> str:
        """Say at once what would otherwise make every call wait for ever: NoAgentFits, VersionMismatch.

        Returns what it has said to who runs the program, if there is nobody to run calls yet.
        """
        reasons = await self._reasons(session, job)
        if reasons is None:
            return ""
        agents = await _live(session)
        if not reasons or not agents:  # or one has come since it was asked why
            return "" if self._grid.own else self._say(NOBODY)  # whose agent is coming
        mine = ".".join(map(str, self._python))
        if not self._bare and all(not agent.python.startswith(f"{mine}.") for agent in agents):
            theirs = sorted({".".join(agent.python.split(".")[:2]) for agent in agents})
            raise VersionMismatch(
                f"this program runs in Python {mine}, and no agent of the grid {self._grid.name} does",
                why=f"They have Python {', '.join(theirs)}, which cannot read functions of another version.",
                fix=f"Run it with python{theirs[-1]}, or start an agent with python{mine}.",
            )
        raise NoAgentFits(
            f"no agent of the grid {self._grid.name} can run these calls",
            why="; ".join(f"{name}: {reason}" for name, reason in sorted(reasons.items())),
            fix="Ask for less, or install what is missing there.",
        )

    async def explain(self, session: Session, job: JobId, said: str) -> str:
        """Say what calls wait for, if it is that no agent runs any, and not what was `said`; returns what was said last."""
        reasons = await self._reasons(session, job)
        if reasons is None:
            return said
        if not reasons or not await _live(session):
            words = NOBODY
        else:
            shown = [
                f"{name}: {reason:.{REASON_CHARACTERS_MAX}}"
                for name, reason in sorted(reasons.items())[:REASONS_MAX]
            ]
            words = f"can run these calls now; they wait. {'; '.join(shown)}"
        return words if words == said else self._say(words)

    async def _reasons(self, session: Session, job: JobId) -> dict[str, str] | None:
        """Why each agent runs none of the job's calls; None when one may."""
        reply = await session.ask(lambda request: Query(request=request, what="why", job=job))
        if not isinstance(reply.message, Answer) or reply.message.placeable:
            return None
        return {_plain(name): _plain(reason) for name, reason in reply.message.reasons.items()}

    def _say(self, words: str) -> str:
        """To who runs the program."""
        print(f"discogrid: no agent of the grid {self._grid.name} {words}", file=sys.stderr)  # noqa: T201
        return words


def _plain(text: str) -> str:
    """An agent's own words, which must not act on a terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


async def _live(session: Session) -> list[AgentView]:
    reply = await session.ask(lambda request: Query(request=request, what="agents", count=PAGE_AGENTS))
    found = reply.message.agents if isinstance(reply.message, Answer) else ()
    return [agent for agent in found if agent.state != "lost"]
