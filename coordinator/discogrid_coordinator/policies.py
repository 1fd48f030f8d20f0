"""The numbers and rules the scheduler goes by, one small function each: change a policy here, not there."""

import re
from dataclasses import replace
from math import ceil
from zlib import crc32

from discogrid.types import ENVIRONMENT_CAPABILITY, JobId, Offer, Requirements, SandboxLevel

HEARTBEAT_S = 2.0
"""Between two beats of an agent on a small grid."""
BEATS_PER_S_MAX = 200.0
"""What all agents together may send: a large grid beats more slowly."""
LEASE_S = 15.0
"""An agent that is silent for so long is lost."""
LEASE_BEATS = LEASE_S / HEARTBEAT_S
BEAT_GRACE_S = 10.0
"""An assignment younger than this may still be on its way: a beat that does not list it proves nothing."""

SILENT_BEATS = 3.0
"""An agent that misses so many gets no new work, and what it runs may be run elsewhere too."""
LOOKS_A_SILENCE = 256
"""In the time after which an agent counts as silent, so often it is looked who is."""
PAUSED_S = 15.0
"""After so long, what an agent runs whose owner came back may be run elsewhere too."""
RESTART_WAIT_S = 4.0
"""What a coordinator that was started again waits for the agents it knew, before what they had goes elsewhere."""
RETURN_WAIT_S = RESTART_WAIT_S
"""What a coordinator that had heard nobody waits for the others once it hears somebody."""
DEAF_BEATS = 1.5
"""Intervals between two beats; when nobody at all is heard for so long, the fault is on this side."""

WITHDRAWN_MAX = 384
"""Tasks of jobs that are cancelled or held which one event takes back from agents."""
LOOKED_AT_MAX = 128
"""Of each kind of thing whose time has come, silence for one, so many are looked at in one event."""
PLACED_MAX = 256
"""Tasks that are given to agents in one event; the rest waits for the next, so that none takes long."""
HELPED_MAX = 128
"""Agents without work, and jobs with stragglers, that are looked after in one event."""
RUNNERS_MAX = 2
"""Attempts of one task under way at a time."""
STRAGGLER_RATIO = 1.5
"""A task that has run for so many medians of its job may be run elsewhere too."""
RECALL_S = 1.5
"""In which an agent says what it gives back: two round trips and a second."""
HELPERS_MAX = 64
"""Agents without work of which the fastest is looked for, to run what is slow elsewhere."""
LOOKS_MAX = 8
"""Agents, or jobs, that are looked at for somebody who has nothing to do."""
WEIGHT_MIN = 0.01
"""Of a submitter whose share is smaller."""

LOSSES_MAX = 5
"""Attempts of one task that may be lost to dying agents and boxes."""
LOSING_AGENTS_MAX = 3
"""So many different agents dying under one task accuse the task."""
TRANSFERS_MAX = 8
"""Attempts of one task whose input or result could not be moved."""
REFUSED_S_MIN = 1.0
"""For which an agent that refused a job for a time is not asked again, however short it said."""
REFUSED_S_MAX = 86_400.0
"""And after which it is asked again at the latest, however long it said."""
TRIAL_TASKS = 3
"""A job whose first so many tasks end with failures that are alike is held."""
FAULTS_MAX = 3
"""Different tasks that an agent may fail while others succeed: then it cools down."""
COOL_S_MIN = 10.0
COOL_S_MAX = 3600.0
BACKOFF_MIN_S = 1.0
BACKOFF_MAX_S = 60.0
AVOIDED_MAX = 8
"""The newest agents that failed a task and are not given it again while another one fits."""

PREFETCH_MAX = 40
"""Tasks an agent may hold beyond those it can run at once."""
TINY_S = 0.002
PREFETCH_TINY_MAX = 512
"""The same of tasks that run for less than TINY_S: those of calls, of which many end while one message is on its way."""
DISPATCH_S = 0.25
"""From a finished task to the start of one that was not sent ahead: round trip, fetch of the input, box."""


def heartbeat_interval(agents: int) -> float:
    """Seconds between two beats of one of `agents`."""
    return max(HEARTBEAT_S, agents / BEATS_PER_S_MAX)


def lease(agents: int) -> float:
    """Seconds of silence after which one of `agents` is lost."""
    return LEASE_BEATS * heartbeat_interval(agents)


def misfit(requirements: Requirements, offer: Offer) -> str:
    """Why the agent could not even run the task when idle; empty when it can."""
    if requirements.protocol > offer.protocol:
        return f"speaks protocol {offer.protocol}, the job needs {requirements.protocol}: discogrid is too old there"
    if requirements.cpus > offer.slots:
        return f"has {offer.slots} slots, the task needs {requirements.cpus}"
    if requirements.memory_bytes > offer.memory_bytes:
        have, need = (f"{size / 2**30:.1f} GiB" for size in (offer.memory_bytes, requirements.memory_bytes))
        return f"lends {have} of memory, the task needs {need}"
    if requirements.gpus > offer.gpus:
        return f"has {offer.gpus} gpus, the task needs {requirements.gpus}"
    if requirements.sandbox.rank > offer.sandbox.rank:
        return f"box level {offer.sandbox}, job demands {requirements.sandbox}"
    if requirements.network and offer.no_network:
        return f"cannot give tasks a network of their own: {offer.no_network}"
    if requirements.network and not offer.network:
        return "its owner lets no task reach the network"
    if not requirements.needs:
        return ""
    lacking = [name for name in requirements.needs if name not in offer.capabilities]
    if ENVIRONMENT_CAPABILITY in lacking:
        return "builds no environments: its owner has not said --allow-environments"
    return f"lacks {', '.join(lacking)}" if lacking else ""


def may_yet_fit(requirements: Requirements, offer: Offer) -> bool:
    """Whether the agent could run the task if all that it is still finding out turned out well."""
    best = replace(
        offer,
        sandbox=SandboxLevel.STRICT,
        network=True,
        no_network="",
        capabilities=offer.capabilities.union(requirements.needs),
    )
    return offer.proving and not misfit(requirements, best)


def fitting(requirements: Requirements, offer: Offer) -> int:
    """How many such tasks an agent that fits can run at a time."""
    fitting = offer.slots // requirements.cpus
    if requirements.memory_bytes:
        fitting = min(fitting, offer.memory_bytes // requirements.memory_bytes)
    return min(fitting, offer.gpus // requirements.gpus) if requirements.gpus else fitting


def prefetch(mean_s: float | None, parallel: int) -> int:
    """Tasks to send ahead to an agent that runs `parallel` at once, each for `mean_s` seconds (None: not known yet).

    By Little's law: as many as end there while the answer to one end is under way.
    """
    if mean_s is None:
        return 1
    if mean_s >= DISPATCH_S * parallel:
        return 1
    most = PREFETCH_MAX if mean_s > TINY_S else PREFETCH_TINY_MAX
    ending = DISPATCH_S * parallel / max(mean_s, DISPATCH_S / most)
    return min(most, max(1, ceil(ending)))


def reserve(wanted: int, waiting: int, agents: int) -> int:
    """How many of `wanted` tasks to send ahead when `waiting` tasks fit `agents` agents: the last ones stay here."""
    if agents <= 1 or waiting >= agents * (wanted + 1):
        return wanted
    return max(0, waiting - agents) // agents


def suspicion(agents: int) -> float:
    """Seconds of silence after which one of `agents` gets no new work."""
    return SILENT_BEATS * heartbeat_interval(agents)


def deafness(agents: int) -> float:
    """Seconds without a word of any of `agents` after which the fault is on this side."""
    return DEAF_BEATS * heartbeat_interval(agents)


def cooling(times: int) -> float:
    """Seconds for which an agent gets nothing of a job whose tasks it fails, for the `times`-th time."""
    return min(COOL_S_MAX, COOL_S_MIN * 2.0 ** min(times - 1, 16))


def alike(reasons: list[str]) -> bool:
    """Whether tasks failed for the same reason: numbers in it may differ, as those of files and lines do."""
    return len({_NUMBER.sub("#", reason) for reason in reasons}) <= 1


def backoff(job: JobId, index: int, failure: int) -> float:
    """Seconds until a task whose transfer failed for the `failure`-th time goes out again.

    Exponential with full jitter; the jitter comes from the task's name, so that the same history repeats itself.
    """
    top = min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2.0 ** min(failure, 16))
    chance = crc32(f"{job}-{index}-{failure}".encode()) / 2**32
    return BACKOFF_MIN_S + chance * (top - BACKOFF_MIN_S)


def same_error(before: str, now: str) -> bool:
    """Whether a task ended twice by the same exception, which a third attempt would only raise again."""
    return bool(_ERROR.search(now)) and alike([before, now])


_ERROR = re.compile(r"\w(Error|Exception)\b")
_NUMBER = re.compile(r"\d+")
