"""A coordinator that is killed with kill -9, under load: nobody was promised anything that is not kept."""

import asyncio
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from discogrid.client import AsyncClient
from discogrid.grid import HOME, open_grid
from discogrid.places import coordinator_folder
from discogrid.submission import Prepared, Submission, prepare
from discogrid.types import JobId
from tests.grid.machines import PATIENCE_S, Machine, processes_with, until

CLIENTS = 4
JOBS_EACH = 40


def listens(machine: Machine) -> str:
    return str(json.loads(machine.address.read_text())["endpoint"]).removeprefix("tcp://")


async def test_no_accepted_job_is_lost_or_there_twice_when_the_coordinator_is_killed_while_clients_submit(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    coordinator = machine.coordinate()
    listen = listens(machine)
    monkeypatch.setenv("DISCOGRID_HOME", str(machine.home))
    grid = open_grid(HOME)
    script = machine.write("script.py", "print('hello')")
    accepted: list[JobId] = []

    def job(client: int, number: int) -> Prepared:
        file = machine.write(
            f"in-{client}-{number}.txt", f"{client} {number}"
        )  # a blob that has to be kept, too
        return prepare(Submission(script=script, inputs=[file]), grid, tmp_path, time.time())

    async def submit(jobs: list[Prepared]) -> None:
        async with AsyncClient(grid) as client:
            for one in jobs:
                accepted.append(await client.submit(one))  # noqa: PERF401 - counted while it grows

    jobs = [[job(client, number) for number in range(JOBS_EACH)] for client in range(CLIENTS)]
    submitting = [asyncio.create_task(submit(some)) for some in jobs]
    async with asyncio.timeout(PATIENCE_S):
        while len(accepted) < CLIENTS * JOBS_EACH // 4:  # noqa: ASYNC110 - counted by four tasks
            await asyncio.sleep(0.001)
    coordinator.send_signal(signal.SIGKILL)
    promised = list(accepted)
    assert len(promised) < CLIENTS * JOBS_EACH
    await asyncio.to_thread(coordinator.wait)
    await asyncio.to_thread(machine.coordinate, listen)
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*submitting)  # the clients have come back by themselves
    async with AsyncClient(grid) as client:
        kept = await client.jobs()
    assert set(promised) <= {view.id for view in kept}
    assert sorted(view.id for view in kept) == sorted(accepted)
    wanted = {digest for some in jobs for one in some for digest in one.files}
    there = {f"blake3:{file.parent.name}{file.name}" for file in coordinator_folder(HOME).glob("blobs/??/*")}
    assert wanted <= there


def test_what_was_done_stays_and_what_ended_meanwhile_counts_when_the_coordinator_is_killed(
    machine: Machine,
) -> None:
    coordinator = machine.coordinate()
    listen = listens(machine)
    machine.lend()
    script = f"nap-{os.getpid()}-{machine.home.parent.name}.py"
    machine.write(
        script, "import sys, time; time.sleep(0.4); open('run-result/' + sys.argv[1], 'w').write('made')"
    )
    for number in range(10):
        machine.write(f"in{number}.txt", str(number))
    job = machine.run("submit", "-d", script, "in*.txt").stdout.strip()

    def tasks(state: str) -> dict[int, dict[str, Any]]:
        found = machine.document("tasks", job).get("tasks", [])
        return {task["index"]: task for task in found if task["state"] == state}

    until(lambda: processes_with(script) and tasks("done"))
    coordinator.send_signal(signal.SIGKILL)
    coordinator.wait()
    until(lambda: not processes_with(script))  # what ran has ended, and nobody was told
    machine.coordinate(listen)
    before = tasks("done")
    assert machine.run("wait", job).returncode == 0
    after = tasks("done")
    assert len(after) == 10
    assert {index: after[index] for index in before} == before
    assert {task["attempt"] for task in after.values()} == {1}
