"""Where a job's blobs are already, and when that decides who gets what. Pure.

A slot where the blobs are is as good as any other, so that to prefer it costs nothing by itself. What may cost is the
order: the longest tasks are to go first. So the tasks whose inputs an agent has go first there only if the transfer
would be dear for how long they run, or where nobody knows how long that is.
"""

from collections.abc import Iterable, Mapping, Sequence

from discogrid.types import AgentId
from discogrid_coordinator.durations import Fresh

LINE_BYTES_S = 25e6
"""What the radio link of a home carries, 200 Mbit/s: by it a transfer is weighed."""
DEAR = 0.1
"""A transfer that takes more than this share of the run time is worth to be spared."""
INPUT_BYTES_MIN = 1 << 20
"""Smaller inputs are nobody's: they travel with their tasks, or nearly as fast as these."""
HOLDERS_MAX = 4
"""Agents of one input that are looked at."""
NEAR_MAX = 64
"""Agents that are known to have what all tasks of a job need."""


def dear(size: float, seconds: float | None) -> bool:
    """Whether `size` bytes are dear to send for a run of `seconds`; 0 or None: nobody knows how long it will be."""
    return size > 0 and (not seconds or size / LINE_BYTES_S > DEAR * seconds)


def at_home(
    inputs: Mapping[int, tuple[int, Sequence[AgentId]]], expected: Sequence[float]
) -> dict[AgentId, tuple[int, ...]]:
    """Which tasks are better run where their input is, by agent, those that are expected to take longest first.

    `inputs` of the tasks of which any agent has the input, with its size in bytes; `expected` seconds of every task, as
    JobSubmitted has them.
    """
    found: dict[AgentId, list[int]] = {}
    for index, (size, agents) in inputs.items():
        if dear(size, expected[index] if expected else None):
            for agent in agents[:HOLDERS_MAX]:
                found.setdefault(agent, []).append(index)
    if expected:
        for indices in found.values():
            indices.sort(key=lambda index: (-expected[index], index))
    return {agent: tuple(indices) for agent, indices in found.items()}


def with_all(holders: Sequence[Sequence[AgentId]]) -> tuple[AgentId, ...]:
    """The agents that have every blob, given who has each; nobody where there is no blob."""
    if not holders:
        return ()
    first, *others = holders
    return tuple(agent for agent in first if all(agent in those for those in others))


class AtHome:
    """The tasks of one job that wait and whose inputs agents have."""

    __slots__ = ("_left",)

    def __init__(self, tasks: Mapping[AgentId, Sequence[int]] = {}) -> None:
        """In the order in which each agent is to run them."""
        self._left = {agent: iter(indices) for agent, indices in tasks.items()}

    def take(self, agent: AgentId, fresh: Fresh, count: int) -> list[int]:
        """Take up to `count` of the agent's tasks out of `fresh`. O(those that others have taken meanwhile), all in all."""
        left = self._left.get(agent)
        taken: list[int] = []
        if left is None:
            return taken
        for index in left:
            if index in fresh:
                fresh.remove(index)
                taken.append(index)
                if len(taken) == count:
                    return taken
        del self._left[agent]
        return taken


class Near:
    """The agents that have what all tasks of one job need; the newest NEAR_MAX of them."""

    __slots__ = ("_agents", "_size")

    def __init__(self, size: int, agents: Sequence[AgentId] = ()) -> None:
        """What they need has `size` bytes, and these agents have it already."""
        self._size = size
        self._agents = dict.fromkeys(agents[:NEAR_MAX])

    def add(self, agent: AgentId) -> None:
        """A task of the job runs there: everything has arrived."""
        if agent in self._agents:
            return
        self._agents[agent] = None
        if len(self._agents) > NEAR_MAX:
            del self._agents[next(iter(self._agents))]

    def preferred(self, seconds: float | None) -> Iterable[AgentId]:
        """Who had better get a task that takes so long (None: nobody knows); nobody where the transfer is cheap."""
        return self._agents if self._agents and dear(self._size, seconds) else ()
