"""Simulated grids from seeds: one large one to be measured, or many small ones in trouble."""

import argparse
import gc
import sys
import traceback
from collections import Counter

from tests.sim.grid import Grid, Summary

DEAREST = 6
"""Kinds of events that are listed."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--seeds", metavar="FIRST..STOP", help="run each of these; STOP is not run")
    parser.add_argument("--agents", type=int, help="default: as the seed has it, up to 10")
    parser.add_argument(
        "--tasks", type=int, help="default: as the seed has it, or five an agent on a large grid"
    )
    asked = parser.parse_args(arguments)
    if asked.seeds:
        first, _, stop = asked.seeds.partition("..")
        return many(range(int(first), int(stop)), asked.agents, asked.tasks)
    gc.disable()  # it would look at the whole simulated grid, and be counted as the machines' own time
    show(Grid(asked.seed, asked.agents, asked.tasks).run())
    return 0


def many(seeds: range, agents: int | None, tasks: int | None) -> int:
    """Each seed that fails is named with the command that replays it."""
    failed = 0
    ends: Counter[str] = Counter()
    events = whole = 0
    for seed in seeds:
        try:
            summary = Grid(seed, agents, tasks).run()
        except Exception:  # noqa: BLE001 - whatever a seed brings to light is to be told, and the others still run
            failed += 1
            traceback.print_exc(limit=-3, file=sys.stdout)
            print(f"seed {seed} fails; again with: {replay(seed, agents, tasks)}", flush=True)
        else:
            ends.update(summary.ends)
            events += summary.events
            whole += summary.tasks
    what = ", ".join(f"{count} {state}" for state, count in sorted(ends.items()))
    print(f"{len(seeds)} seeds, {failed} failed; {whole} tasks ({what}), {events} events")
    return 1 if failed else 0


def replay(seed: int, agents: int | None, tasks: int | None) -> str:
    more = "".join(f" --{name} {count}" for name, count in (("agents", agents), ("tasks", tasks)) if count)
    return f"python -m tests.sim --seed {seed}{more}"


def show(summary: Summary) -> None:
    coordinator, machines = summary.coordinator, summary.machines
    what = ", ".join(f"{count} {state}" for state, count in summary.ends.items())
    worst, worst_ns = coordinator.worst
    print(f"seed       {summary.seed}")
    print(f"agents     {summary.agents}")
    print(f"tasks      {summary.tasks} in {summary.jobs} jobs: {what}")
    print(f"events     {coordinator.events} of the scheduler, {machines.events} of the agents")
    print(f"scheduler  {coordinator.per(summary.tasks):.1f} µs a task")
    for name, kind in coordinator.dearest(DEAREST):
        mean, most = kind.total_ns / 1e3 / kind.events, kind.worst_ns / 1e6
        print(f"           {kind.events:8} x {name:15} {mean:7.1f} µs each, {most:.2f} ms at most")
    print(f"agents     {machines.per(summary.tasks):.1f} µs a task")
    print(f"worst      {worst_ns / 1e6:.2f} ms for a {worst}")
    print(f"makespan   {summary.makespan_s:.1f} virtual s")
    print(f"digest     {summary.digest}")


if __name__ == "__main__":
    sys.exit(main())
