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

    async def check(self, session: Session, job: JobId) -> bool:
        """Say at once what would otherwise make every call wait for ever: NoAgentFits, VersionMismatch.

        Returns whether it has said that there is nobody to run them yet.
        """
        reasons = await self._reasons(session, job)
        if reasons is None:
            return False
        agents = await _live(session)
        if not agents:
            if self._grid.own:  # its agent is coming
                return False
            self._say(NOBODY)
            return True
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

    async def explain(self, session: Session, job: JobId) -> bool:
        """Say what calls wait for, if it is that no agent runs any; whether it is. NoAgentFits where none will ever come."""
        reasons = await self._reasons(session, job)
        if reasons is None:
            return False
        if not await _live(session):
            self._say(NOBODY)
            return True
        if self._grid.own:  # it has one agent, which has found out by now what it can give
            return await self.check(session, job)
        shown = [
            f"{name}: {reason:.{REASON_CHARACTERS_MAX}}"
            for name, reason in sorted(reasons.items())[:REASONS_MAX]
        ]
        self._say(f"can run these calls now; they wait. {'; '.join(shown)}")
        return True

    async def _reasons(self, session: Session, job: JobId) -> dict[str, str] | None:
        """Why each agent runs none of the job's calls; None when one may."""
        reply = await session.ask(lambda request: Query(request=request, what="why", job=job))
        if not isinstance(reply.message, Answer) or reply.message.placeable:
            return None
        return reply.message.reasons

    def _say(self, what: str) -> None:
        """To who runs the program."""
        print(f"discogrid: no agent of the grid {self._grid.name} {what}", file=sys.stderr)  # noqa: T201


async def _live(session: Session) -> list[AgentView]:
    reply = await session.ask(lambda request: Query(request=request, what="agents", count=PAGE_AGENTS))
    found = reply.message.agents if isinstance(reply.message, Answer) else ()
    return [agent for agent in found if agent.state != "lost"]
