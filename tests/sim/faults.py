"""Everything that goes wrong on a grid, at times that the seed chooses, until it is over."""

from collections.abc import Callable, Sequence

from discogrid_agent.events import StopMode
from tests.sim.hub import Hub
from tests.sim.network import FAIR, Network, Weather
from tests.sim.node import Luck, Node
from tests.sim.world import World

NODE_S = 90.0
"""Between two misfortunes of one agent, in the mean."""
GRID_S = 60.0
"""Between two misfortunes of the whole grid."""
SLOW = 10.0


class Faults:
    """Befalls a grid from its first second on; `heal` ends it all."""

    def __init__(self, world: World, network: Network, hub: Hub, nodes: Sequence[Node], luck: Luck) -> None:
        self._world = world
        self._network = network
        self._hub = hub
        self._nodes = nodes
        self._luck = luck
        self._over = False
        random = world.random
        if random.random() < 0.7:
            network.weather = _some_weather(world)
        for name, most in (
            ("fetch", 0.1),
            ("upload", 0.1),
            ("vanish", 0.02),
            ("script", 0.05),
            ("box", 0.03),
            ("limit", 0.01),
            ("refuse", 0.02),
        ):
            setattr(luck, name, random.choice([0.0, most, most]))
        self._fragile = random.uniform(0.1, 1.0)  # share of the agents that anything ever happens to
        for node in nodes:
            if world.chance(self._fragile):
                self._next_for(node)
        self._next_for_all()

    def heal(self) -> None:
        """From now on nothing goes wrong; whoever lost a word in all this gets a new line to hear it on."""
        self._over = True
        self._network.cut.clear()
        self._network.weather = FAIR
        for name in Luck.__dataclass_fields__:
            setattr(self._luck, name, 0.0)
        self._hub.dies_at_commit = False
        self._hub.wake()
        self._hub.boot()
        for node in self._nodes:
            node.wake()
            node.drag(1.0)
            node.pause(paused=False)
            node.boot()
            node.cut_line()

    # One agent.

    def _next_for(self, node: Node) -> None:
        self._world.after(self._world.random.expovariate(1 / NODE_S), lambda: self._befall(node))

    def _befall(self, node: Node) -> None:
        if self._over:
            return
        kinds = (self._crash, self._freeze, self._cut, self._part, self._slow, self._pause, self._leave)
        self._world.random.choice(kinds)(node)
        self._next_for(node)

    def _crash(self, node: Node) -> None:
        node.crash()
        self._undo(60.0, node.boot)

    def _freeze(self, node: Node) -> None:
        node.freeze()
        self._undo(60.0, node.wake)

    def _cut(self, node: Node) -> None:
        node.cut_line()

    def _part(self, node: Node) -> None:
        self._network.cut.add(node.name)
        self._undo(60.0, lambda: self._network.cut.discard(node.name))

    def _slow(self, node: Node) -> None:
        node.drag(SLOW)
        self._undo(120.0, lambda: node.drag(1.0))

    def _pause(self, node: Node) -> None:
        node.pause(paused=True)
        self._undo(60.0, lambda: node.pause(paused=False))

    def _leave(self, node: Node) -> None:
        node.stop(self._world.random.choice([StopMode.FINISH, StopMode.NOW]))

    # All of them.

    def _next_for_all(self) -> None:
        self._world.after(self._world.random.expovariate(1 / GRID_S), self._befall_all)

    def _befall_all(self) -> None:
        if self._over:
            return
        kinds = (self._crash_hub, self._crash_hub, self._freeze_hub, self._part_many, self._storm, self._jump)
        self._world.random.choice(kinds)()
        self._next_for_all()

    def _crash_hub(self) -> None:
        """At once, or between what it does next and its becoming durable."""
        if self._world.chance(0.5):
            self._hub.dies_at_commit = True
        else:
            self._hub.crash()
        for node in self._nodes:
            node.cut_line()
        self._undo(30.0, self._revive_hub)

    def _revive_hub(self) -> None:
        if self._hub.up:  # nothing has happened that it could have died of
            self._hub.crash()
        self._hub.boot()

    def _freeze_hub(self) -> None:
        self._hub.freeze()
        self._undo(40.0, self._hub.wake)

    def _part_many(self) -> None:
        share = self._world.random.choice([0.3, 0.6, 1.0])
        names = [node.name for node in self._nodes if self._world.chance(share)]
        self._network.cut.update(names)
        self._undo(60.0, lambda: self._network.cut.difference_update(names))

    def _storm(self) -> None:
        before = self._network.weather
        self._network.weather = Weather(lost=0.3, doubled=0.2, late=0.3)

        def clear() -> None:
            self._network.weather = before

        self._undo(20.0, clear)

    def _jump(self) -> None:
        self._world.wall_offset += self._world.random.choice([-86_400.0, -300.0, 300.0, 86_400.0])

    def _undo(self, most_s: float, act: Callable[[], None]) -> None:
        def unless_over() -> None:
            if not self._over:
                act()

        self._world.after(self._world.random.uniform(0.5, most_s), unless_over)


def _some_weather(world: World) -> Weather:
    share = world.random.uniform
    return Weather(lost=share(0.0, 0.03), doubled=share(0.0, 0.03), late=share(0.0, 0.05))
