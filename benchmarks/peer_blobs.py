"""A large mount for several agents that start at once: from each other, and from the coordinator alone.

    python benchmarks/peer_blobs.py [MEGABYTES] [AGENTS] [ROUNDS] [MBIT]

A real coordinator and real agents, each on a host of its own: network namespaces joined by a switch, made as in
tests/network. Counted is what the coordinator's network interface sends, as the kernel says, everything included;
the time is from the job's acceptance to the start of the last agent's task. Both in turn, on the same grid of hosts.
With MBIT the coordinator's own line sends no faster than so many megabits a second (`tc`).
"""

import os
import statistics
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.grid.test_joining import Invitation
from tests.network.hosts import Host, Network, until

MEGABYTES = int(sys.argv[1]) if len(sys.argv) > 1 else 100
AGENTS = int(sys.argv[2]) if len(sys.argv) > 2 else 4
ROUNDS = int(sys.argv[3]) if len(sys.argv) > 3 else 3
MBIT = int(sys.argv[4]) if len(sys.argv) > 4 else 0
BAR = 1.1  # times the mount's size, over the coordinator's wire
LOOK = "import os, time\nprint(os.path.getsize('/opt/tree/weights.bin'))\ntime.sleep(600)\n"
PATIENCE_S = 300.0


def sent_bytes(host: Host) -> int:
    """What its interface has sent since it was plugged in."""
    lines = host.run_python("print(open('/proc/net/dev').read())").stdout.splitlines()
    return next(int(line.split(":")[1].split()[8]) for line in lines if line.strip().startswith("eth0:"))


def joined(home: Host, guests: list[Host], *options: str) -> None:
    """Every guest's agent is there; the first time it joins by a code."""
    for guest in guests:
        code: tuple[str, ...] = ()
        if not (guest.home / "grids").exists():
            invitation = Invitation(home, "--listen", f"{home.ip()}:0")
            code = ("--join", invitation.code)
        guest.start("agent", "--name", guest.name, "--slots", "1", *code, *options)
        until(lambda name=guest.name: name in home.live_agents(), PATIENCE_S)  # type: ignore[misc]


def running(home: Host, job: str, count: int) -> list[dict[str, Any]]:
    """The job's tasks once they all run."""
    tasks = list(home.document("tasks", job).get("tasks", []))
    return tasks if [task["state"] for task in tasks] == ["running"] * count else []


def round_of(home: Host, guests: list[Host], *options: str) -> tuple[int, float]:
    """Bytes over the coordinator's wire, and seconds until all have begun."""
    joined(home, guests, *options)
    (home.work / "tree").mkdir(exist_ok=True)
    (home.work / "tree" / "weights.bin").write_bytes(os.urandom(MEGABYTES * 1_000_000))
    before = sent_bytes(home)
    submitted = home.run(
        "submit", "-d", "look.py", *(f"in{n}.txt" for n in range(len(guests))), "--mount", "tree:/opt/tree"
    )
    job = submitted.stdout.strip()
    assert job, submitted.stderr
    # None ends before all have begun: who has nothing to do would take over what waits for its blobs elsewhere.
    tasks = until(lambda: running(home, job, len(guests)), PATIENCE_S)
    sent = sent_bytes(home) - before
    assert {task["agent"] for task in tasks} == {guest.name for guest in guests}, tasks
    created = datetime.fromisoformat(home.document("show", job)["created"])
    began = (max(datetime.fromisoformat(task["started"]) for task in tasks) - created).total_seconds()
    home.run("cancel", job)
    for guest in guests:
        for process in guest.processes:
            process.terminate()
            process.wait()
        guest.processes.clear()
    until(lambda: not home.live_agents(), PATIENCE_S)
    return sent, began


def main() -> None:
    """Print bytes and seconds of both ways, and whether the bar is kept."""
    with tempfile.TemporaryDirectory() as folder, Network(Path(folder)) as network:
        home = network.host("house")
        if MBIT:
            shape = f"tc qdisc add dev eth0 root tbf rate {MBIT}mbit burst 256kb latency 50ms"
            home.as_owner(*shape.split())
        guests = [network.host(f"barn-{number}") for number in range(AGENTS)]
        home.write("look.py", LOOK)
        for number in range(AGENTS):
            home.write(f"in{number}.txt", str(number))
        home.start("coordinator", "--no-announce")
        until(home.address.exists)
        ways: dict[str, list[tuple[int, float]]] = {"from each other": [], "from the coordinator": []}
        began = time.monotonic()
        for _ in range(ROUNDS):
            ways["from each other"].append(round_of(home, guests))
            ways["from the coordinator"].append(round_of(home, guests, "--no-peers"))
        line = f"a line of {MBIT} Mbit/s" if MBIT else "a line that is not limited"
        print(
            f"{MEGABYTES} MB for {AGENTS} agents, {line}, {ROUNDS} rounds in {time.monotonic() - began:.0f} s"
        )
        size = MEGABYTES * 1_000_000
        for way, rounds in ways.items():
            times = [seconds for _, seconds in rounds]
            crossings = max(sent for sent, _ in rounds) / size
            print(
                f"{way:>21}: {crossings:.3f} times the mount over the coordinator's wire at most, "
                f"{statistics.median(times):.2f} s ({min(times):.2f} to {max(times):.2f})"
            )
        worst = max(sent for sent, _ in ways["from each other"]) / size
        print(f"the bar is {BAR} times: {'kept' if worst <= BAR else 'MISSED'}")


if __name__ == "__main__":
    main()
