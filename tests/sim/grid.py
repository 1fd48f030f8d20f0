"""A whole grid from one seed: the machines of coordinator and agents, a bad network, bad luck, and the books that must balance."""

from dataclasses import dataclass

from discogrid.types import AgentId, JobId
from tests.sim.client import Client
from tests.sim.faults import Faults
from tests.sim.hub import Hub
from tests.sim.jobs import Manifest, any_job
from tests.sim.meter import Meter
from tests.sim.network import Frame, Network
from tests.sim.node import Luck, Node
from tests.sim.world import World

SMALL_AGENTS = 64
"""Up to so many, all invariants of all machines are checked after every event."""
LARGE_JOBS = 12
LARGE_TASKS = 5
"""An agent, where nothing else is asked for."""
CHECK_TASKS = 2
"""On a larger grid: once for so many tasks and agents together, as a check looks at all of them."""
SLOTS = [1, 2, 4, 8]
SPEEDS = [0.2, 1.0, 1.0, 2.0]
TROUBLE_S = 240.0
"""After which nothing more goes wrong."""
COMING_S = 20.0
"""In which the agents come, and the jobs after them."""
END_S = 24 * 3600.0
REST_S = 900.0
"""Virtual seconds in which all must have come to its end, and then to rest."""


@dataclass(frozen=True)
class Summary:
    """What became of it."""

    seed: int
    agents: int
    jobs: int
    tasks: int
    ends: dict[str, int]
    steps: int
    events: int  # that the scheduler handled
    coordinator: Meter
    machines: Meter
    makespan_s: float
    digest: str


class Grid:
    """`agents` agents and about `tasks` tasks in some jobs; None: as the seed has it."""

    def __init__(self, seed: int, agents: int | None = None, tasks: int | None = None) -> None:
        self.seed = seed
        self.world = World(seed)
        random = self.world.random
        agents = random.randint(1, 10) if agents is None else agents
        thorough = agents <= SMALL_AGENTS
        jobs = random.randint(1, 5) if thorough else LARGE_JOBS
        if tasks is None and not thorough:
            tasks = LARGE_TASKS * agents
        each = None if tasks is None else max(1, tasks // jobs)
        self.coordinator, self.machines = Meter(), Meter()
        self.network = Network(self.world)
        self.manifests: list[Manifest] = []
        sizes = [random.choice(SLOTS) for _ in range(agents)]
        for number in range(jobs):
            size = random.randint(1, 40) if each is None else each
            self.manifests.append(any_job(random, seed, number, size, max(sizes)))
        whole = sum(manifest.tasks for manifest in self.manifests)
        check_each = 1 if thorough else CHECK_TASKS * (agents + whole)
        self.hub = Hub(self.world, self.network, self.coordinator, check_each=check_each)
        luck = Luck()
        self.nodes = [
            Node(
                self.world,
                self.network,
                self.hub,
                AgentId(f"agent-{number}"),
                slots=slots,
                speed=random.choice(SPEEDS),
                luck=luck,
                meter=self.machines,
                thorough=thorough,
            )
            for number, slots in enumerate(sizes)
        ]
        by_name = {node.name: node for node in self.nodes}

        def to_agent(frame: Frame) -> None:
            by_name[frame.agent].hear_from(frame)

        self.hub.to_agent = to_agent
        for node in self.nodes:
            self.world.after(random.uniform(0.0, COMING_S), node.boot)
        begun = {manifest.id: random.uniform(0.0, 3 * COMING_S) for manifest in self.manifests}
        self.client = Client(self.world, self.hub, begun, self.manifests)
        for manifest in self.manifests:
            if random.random() < 0.15:
                self.client.regrets[manifest.id] = random.uniform(0.0, TROUBLE_S)
        self.faults = Faults(self.world, self.network, self.hub, self.nodes, luck)
        self.world.after(TROUBLE_S, self._heal)

    def _heal(self) -> None:
        self.faults.heal()
        self.client.patient = False

    def run(self) -> Summary:
        """Until all jobs have ended, and every agent knows it; AssertionError where anything does not hold."""
        world = self.world
        while not self.client.served:
            world.step()
            assert world.now < END_S, f"jobs never end: {self._open_jobs()}"
        makespan = world.now
        self._heal()
        while not all(node.at_rest for node in self.nodes):
            world.step()
            assert world.now < makespan + REST_S, "agents keep or run what nobody wants"
        self.hub.check()
        self.hub.crash()
        self.hub.boot()
        self.hub.books.check_end()
        return Summary(
            self.seed,
            len(self.nodes),
            len(self.manifests),
            sum(manifest.tasks for manifest in self.manifests),
            dict(sorted(self.hub.books.counts().items())),
            world.steps,
            self.hub.events,
            self.coordinator,
            self.machines,
            makespan,
            world.digest,
        )

    def _open_jobs(self) -> list[JobId]:
        books = self.hub.books
        return [manifest.id for manifest in self.manifests if manifest.id not in books.job_ends]
