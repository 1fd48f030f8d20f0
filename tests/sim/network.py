"""Lines that lose, double, delay and reorder messages, and are cut."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from discogrid.messages import Message
from discogrid.types import AgentId
from tests.sim.world import World

DELAY_S = (0.0002, 0.02)
LATE_S = 8.0
"""What a message that is late takes at most; later ones overtake it."""


@dataclass(frozen=True)
class Frame:
    """A message on its way between an agent and the coordinator. `route` names the agent's line."""

    agent: AgentId
    route: bytes
    message: Message
    payload: Sequence[bytes] = ()


@dataclass(frozen=True)
class Weather:
    """Which share of messages suffers what."""

    lost: float = 0.0
    doubled: float = 0.0
    late: float = 0.0


FAIR = Weather()

Take = Callable[[Frame], None]


class Network:
    """Between one coordinator and all agents. In fair weather messages of a line keep their order, as TCP has it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.weather = FAIR
        self.cut: set[AgentId] = set()  # who cannot be reached
        self._newest: dict[tuple[AgentId, bool], float] = {}  # arrival, by agent and direction

    def send(self, frame: Frame, take: Take, *, up: bool) -> None:
        """Let it leave; `take` gets what arrives, if anything does, as often as it does."""
        world, weather = self._world, self.weather
        if frame.agent in self.cut or world.chance(weather.lost):
            return
        for _ in range(2 if world.chance(weather.doubled) else 1):
            delay = world.random.uniform(*DELAY_S)
            if world.chance(weather.late):
                delay += world.random.uniform(0.0, LATE_S)
            else:
                line = frame.agent, up
                arrival = max(world.now + delay, self._newest.get(line, 0.0))
                self._newest[line] = arrival
                delay = arrival - world.now
            world.after(delay, lambda: self._arrive(frame, take))

    def _arrive(self, frame: Frame, take: Take) -> None:
        if frame.agent not in self.cut:
            take(frame)
