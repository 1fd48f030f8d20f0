"""What a member may do beyond its role: with whose jobs, with which blobs, and how much at a time."""

from discogrid.messages import Refused
from discogrid.types import Digest, NodeId, Quotas, Role
from discogrid_coordinator.engine import Engine, is_result, job_of
from discogrid_coordinator.intake import Accepted, Verified
from discogrid_coordinator.retention import ENDED_JOBS_MAX

RESULT_OVERHEAD_BYTES = 64 << 20  # of an archive, over the outputs in it: its index, logs and names


class Permits:
    """Asked for every message that touches a job or a blob; goes by the roster of that moment."""

    def __init__(self, engine: Engine) -> None:
        """Know this engine's jobs and members."""
        self._engine = engine

    def owns(self, node: NodeId, accepted: Accepted) -> bool:
        """Whether the node may steer the job and read what is in it: it submitted it, or is an admin."""
        roster = self._engine.grid.roster
        return roster.may(node, Role.ADMIN) or (
            accepted.job.manifest.submitter == node and roster.may(node, Role.SUBMITTER)
        )

    def over_quota(self, request: int, verified: Verified) -> Refused | None:
        """Why the job is one too many for its submitter, or for the grid; None when it is not."""
        if self._engine.intake.ended_jobs >= ENDED_JOBS_MAX:
            return Refused(
                request=request,
                code="quota",
                what=f"this grid keeps {ENDED_JOBS_MAX} jobs that have ended, and no more",
                why="Results stay until somebody drops them, or for as long as the coordinator's --keep says.",
                fix="Drop what has been fetched: discogrid prune",
            )
        submitter = verified.job.manifest.submitter
        member = self._engine.grid.roster.member(submitter)
        quotas = member.quotas if member else Quotas()
        what = self._engine.intake.usage.excess(submitter, verified.load, quotas)
        if not what:
            return None
        return Refused(
            request=request,
            code="quota",
            what=what,
            fix="Wait until some of your jobs have ended, cancel some, or ask the owner for more.",
        )

    def may_read(self, peer: str, digest: Digest) -> bool:
        """Whether a member is served a blob: of a job it has a task of, or submitted; an admin: any."""
        node, roster = NodeId(peer), self._engine.grid.roster
        if roster.may(node, Role.ADMIN):
            return True
        engine, owners = self._engine, self._engine.store.pinned_by(digest)
        jobs = {job_of(owner) for owner in owners if not is_result(owner)}
        if roster.may(node, Role.AGENT) and any(
            not jobs.isdisjoint(engine.scheduler.jobs_held(agent)) for agent in engine.peers.agents_of(node)
        ):
            return True
        return roster.may(node, Role.SUBMITTER) and any(
            engine.intake.submitter(job_of(owner)) == node for owner in owners
        )

    def may_write(self, peer: str, digest: Digest, size: int) -> bool:
        """Whether a blob is taken: one that a submitter's own signed job waits for, or results of who has a task."""
        node, roster = NodeId(peer), self._engine.grid.roster
        if roster.may(node, Role.SUBMITTER) and self._engine.intake.awaits(node, digest, size):
            return True
        return roster.may(node, Role.AGENT) and any(
            size <= accepted.job.manifest.limits.output_bytes + RESULT_OVERHEAD_BYTES
            for agent in self._engine.peers.agents_of(node)
            for job in self._engine.scheduler.jobs_held(agent)
            if (accepted := self._engine.intake.get(job))
        )
