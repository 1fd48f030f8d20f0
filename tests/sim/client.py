"""Submitters: they ask until they are answered, release what was held, and sometimes change their minds."""

from discogrid.types import JobId
from tests.sim.hub import Hub
from tests.sim.jobs import Manifest
from tests.sim.world import World

ASK_S = 2.0


class Client:
    """Whoever wants these jobs done. `begun` tells when each is thought of first."""

    def __init__(self, world: World, hub: Hub, begun: dict[JobId, float], manifests: list[Manifest]) -> None:
        self._world = world
        self._hub = hub
        self._begun = begun
        self._manifests = manifests
        self.regrets: dict[JobId, float] = {}  # when it changes its mind
        self.patient = True  # held jobs may stay so for a while
        world.after(0.0, self._ask)

    @property
    def served(self) -> bool:
        """Whether everything it wanted is over, one way or the other."""
        return len(self._hub.books.job_ends.keys() & self._hub.books.accepted.keys()) == len(self._manifests)

    def _ask(self) -> None:
        now, books = self._world.now, self._hub.books
        for manifest in self._manifests:
            if manifest.id not in books.accepted and self._begun[manifest.id] <= now:
                self._hub.submit(manifest)
        for job in self._hub.held_jobs():
            if not self.patient or self._world.chance(0.2):
                self._hub.release(job)
        for job, due in self.regrets.items():
            if due <= now and job in books.accepted and job not in books.job_ends:
                self._hub.cancel(job)
        if not self.served:
            self._world.after(ASK_S, self._ask)
