"""A real coordinator and several real agents in this process, each with keys of its own, on real sockets."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from discogrid.keys import Identity, new_identity
from discogrid.submission import Prepared, Submission, prepare
from discogrid.types import GIB, Limits, Offer, Role
from discogrid_agent.rules import Rule
from discogrid_agent.rules_file import RulesFile
from discogrid_agent.sandbox.box import Box
from discogrid_agent.service import Service
from tests.coordinator.house import ARRIVES_S, House, serving
from tests.trust.forge import Cast, member, roster_of


@dataclass
class Crowd:
    """A house, and agents in it."""

    house: House
    cast: Cast
    identities: Sequence[Identity]
    box: Box
    folder: Path
    services: list[Service] = field(default_factory=list)
    serving: list[asyncio.Task[None]] = field(default_factory=list)

    def lend(
        self, number: int, *, peers: bool = True, proof: Callable[[], Awaitable[Offer]] | None = None
    ) -> Service:
        service = Service(
            self.cast.grid(self.identities[number]),
            self.house.endpoint,
            self.folder / f"agent-{number}",
            name=f"agent-{number}",
            offer=Offer(slots=1, memory_bytes=4 * GIB, sandbox=self.box.level),
            limits=Limits(),
            rules=RulesFile(self.folder / "rules.toml", Rule()),
            box=self.box,
            peers=peers,
            proof=proof,
        )
        self.services.append(service)
        self.serving.append(asyncio.create_task(service.run()))
        return service

    @property
    def relayed_bytes(self) -> int:
        """Bytes of blobs that the coordinator has sent."""
        return self.house.server._blobs.sent_bytes


def mounted(cast: Cast, folder: Path, tree_bytes: int, tasks: int, *, stays: bool = False) -> Prepared:
    """A job whose tasks look into a mount of random bytes; with `stays` they run on until they are cancelled."""
    (folder / "tree").mkdir(parents=True)
    (folder / "tree" / "weights.bin").write_bytes(os.urandom(tree_bytes))
    (folder / "look.py").write_text(
        "import os, time\nprint(os.path.getsize('/opt/tree/weights.bin'))\n" + "time.sleep(600)\n" * stays
    )
    inputs = [folder / f"in{index}.txt" for index in range(tasks)]
    for file in inputs:
        file.write_text(file.name)
    submission = Submission(
        script=folder / "look.py", inputs=inputs, mounts=((folder / "tree", "/opt/tree"),)
    )
    return prepare(submission, cast.grid(cast.submitter), folder, time.time())


@contextlib.asynccontextmanager
async def crowd(folder: Path, box: Box, agents: int) -> AsyncIterator[Crowd]:
    owner, coordinator, submitter = new_identity(), new_identity(), new_identity()
    identities = [new_identity() for _ in range(agents)]
    roster = roster_of(
        owner,
        member(coordinator, Role.COORDINATOR),
        member(submitter, Role.SUBMITTER),
        *(member(identity, Role.AGENT) for identity in identities),
    )
    cast = Cast(owner, coordinator, identities[0], identities[-1], submitter, submitter, roster)
    async with serving(cast, folder / "coordinator") as house:
        opened = Crowd(house, cast, identities, box, folder)
        try:
            yield opened
        finally:
            for service in opened.services:
                service.stop()
            async with asyncio.timeout(ARRIVES_S):
                await asyncio.gather(*opened.serving, return_exceptions=True)
