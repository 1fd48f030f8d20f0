"""Plays tests/scenarios/*.txt: what happens at the margin, what the scheduler answers indented below it."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from discogrid.types import AgentId, Attempt, JobId, NodeId, Outcome, Requirements, Run
from discogrid_coordinator import events
from discogrid_coordinator.events import Action, Event
from tests.pure.referee import LEASE, Referee, offer

OLD_LEASE = 3
FILES = sorted((Path(__file__).parent.parent / "scenarios").glob("*.txt"))


def runs(text: str | None) -> tuple[Run, ...]:
    """`k3f9-0..2 #1, k3f9-5 #2`: the last index is included; `#1 of old` was granted before a restart."""
    found = re.findall(r"(\w+)-(\d+)(?:\.\.(\d+))? #(\d+)( of old)?", text or "")
    return tuple(
        Run(JobId(job), int(first), int(last or first) + 1, int(number), OLD_LEASE if old else LEASE)
        for job, first, last, number, old in found
    )


def one(text: str) -> Attempt:
    return runs(text)[0].attempts()[0]


def told(run: Run) -> str:
    last = f"..{run.stop - 1}" if len(run) > 1 else ""
    return f"{run.job}-{run.start}{last} #{run.number}{' of old' if run.lease == OLD_LEASE else ''}"


def job_comes(job: str, tasks: str, wishes: str) -> Event:
    cpus = re.search(r"(\d+) cpus", wishes)
    needs = tuple(re.findall(r"needing (\w+)", wishes))
    priority = re.search(r"priority (-?\d+)", wishes)
    retries = re.search(r"(\d+) retries", wishes)
    done = tuple((int(low), int(high) + 1) for low, high in re.findall(r"(\d+)\.\.(\d+) done", wishes))
    return events.JobSubmitted(
        JobId(job),
        int(tasks),
        Requirements(cpus=int(cpus[1]) if cpus else 1, needs=needs),
        retries=int(retries[1]) if retries else 1,
        priority=int(priority[1]) if priority else 0,
        held="held" in wishes,
        restored="restored" in wishes,
        submitter=NodeId(from_whom[1]) if (from_whom := re.search(r"from (\w+)", wishes)) else NodeId(""),
        repeatable="not repeatable" not in wishes,
        done=done,
    )


EVENTS: dict[str, Callable[..., Event]] = {
    r"(\w+) joins with (\d+) slots?(?:, holding (.*))?": lambda name, slots, held: events.AgentJoined(
        AgentId(name), offer(int(slots)), runs(held)
    ),
    r"(\w+) beats(?:, holding (.*))?": lambda name, held: events.AgentBeat(AgentId(name), runs(held)),
    r"(\w+) goes: (.*)": lambda name, why: events.AgentLeft(AgentId(name), why),
    r"(\w+) says goodbye": lambda name: events.AgentLeft(AgentId(name), "goodbye", goodbye=True),
    r"job (\w+) of (\d+) tasks? comes(.*)": job_comes,
    r"job (\w+) is released": lambda job: events.JobReleased(JobId(job)),
    r"job (\w+) is cancelled": lambda job: events.JobCancelled(JobId(job)),
    r"(\w+) starts (.*)": lambda name, what: events.TasksStarted(AgentId(name), runs(what)),
    r"(\w+) finishes (.*) in (\S+) s": lambda name, what, seconds: events.TaskSucceeded(
        AgentId(name), one(what), float(seconds)
    ),
    r"(\w+) fails (.*?) by ([\w-]+?): (.*?)( for good)?": lambda name, what, how, why, final: (
        events.TaskFailed(AgentId(name), one(what), Outcome(how), why, retryable=not final)
    ),
    r"(\w+) returns (.*) for recall (\d+)": lambda name, what, nonce: events.TasksReturned(
        AgentId(name), runs(what), nonce=int(nonce)
    ),
    r"(\w+) is (paused|resumed)": lambda name, how: events.AgentPaused(AgentId(name), how == "paused"),
    r"(\w+) returns (.*) and leaves": lambda name, what: events.TasksReturned(
        AgentId(name), runs(what), leaving=True
    ),
    r"(\w+) returns (.*)": lambda name, what: events.TasksReturned(AgentId(name), runs(what)),
    r"the coordinator knew (.*)": lambda names: events.Restarted(tuple(map(AgentId, names.split(" and ")))),
    r"time passes": events.TimePassed,
}


def event_of(line: str) -> Event:
    for pattern, make in EVENTS.items():
        if match := re.fullmatch(pattern, line):
            return make(*match.groups())
    raise AssertionError(f"not understood: {line}")


def prose(action: Action) -> str:
    match action:
        case events.Welcome(agent, heartbeat_s, lease_s):
            return f"welcome {agent}: beat every {heartbeat_s:g} s, lost after {lease_s:g} s"
        case events.Resync(agent):
            return f"ask {agent} to say hello"
        case events.LoseAgent(agent, reason):
            return f"lose {agent}: {reason}"
        case events.Assign(agent, run):
            return f"assign {told(run)} to {agent}"
        case events.Adopt(agent, run):
            return f"leave {told(run)} to {agent}"
        case events.Recall(agent, recalled, nonce):
            return f"ask {agent} for {', '.join(map(told, recalled))} (recall {nonce})"
        case events.Cancel(agent, cancelled):
            return f"cancel {', '.join(map(told, cancelled))} on {agent}"
        case events.Commit(agent, attempt):
            return f"commit {told(Run.of(attempt))} of {agent}"
        case events.Discard(agent, attempt):
            return f"discard {told(Run.of(attempt))} of {agent}"
        case events.StartTasks(agent, run):
            return f"{told(run)} runs on {agent}"
        case events.Requeue(attempt, reason):
            return f"{attempt.job}-{attempt.index} #{attempt.number} is over: {reason}"
        case events.EndTasks(job, start, stop, state, reason):
            last = f"..{stop - 1}" if stop - start > 1 else ""
            return f"{job}-{start}{last} is {state}" + (f": {reason}" if reason else "")
        case events.HoldJob(job, reason):
            return f"hold job {job}: {reason}"
        case events.ReleaseJob(job):
            return f"job {job} waits no more"
        case events.ExtendJob(job, start, stop):
            return f"job {job} has the tasks {start} to {stop - 1} too"
        case events.StartJob(job):
            return f"job {job} runs"
        case events.EndJob(job, state, reason):
            return f"job {job} has {state}" + (f": {reason}" if reason else "")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_scenario(path: Path) -> None:
    referee = Referee()
    expected: list[str] = []
    actual: list[str] = []
    for line in path.read_text("utf-8").splitlines():
        expected.append(line)
        if line.startswith(" "):
            continue
        actual.append(line)
        if time := re.fullmatch(r"at (\S+) s", line):
            referee.now = float(time[1])
        elif query := re.fullmatch(r"why does (\w+) wait\?", line):
            reasons = referee.scheduler.explain(JobId(query[1]))
            actual += [f"    {agent}: {reason}" for agent, reason in reasons.items()]
        elif line and not line.startswith("#"):
            actual += [f"    {prose(action)}" for action in referee.tell(event_of(line))]
    assert actual == expected


def test_there_are_scenarios() -> None:
    assert len(FILES) >= 8
