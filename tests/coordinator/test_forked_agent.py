"""An agent that is forked from its coordinator; each test is a program, because it forks."""

import subprocess
import sys

BEGIN = """
import asyncio, os, sys
from discogrid_coordinator import forked_agent
from discogrid_coordinator.forked_agent import ForkedAgent
from discogrid_coordinator import supervisor
from discogrid_coordinator.supervisor import AgentSupervisor

def agent(words):
    word = os.read(0, 1)
    print("told" if word else "let go", *words, flush=True)
    if word: os.read(0, 1)
    return 3

forked_agent.run = agent
"""


def program(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BEGIN + text], capture_output=True, text=True, timeout=60, check=False
    )


def test_it_waits_for_the_word_and_lives_until_its_leash_is_let_go() -> None:
    done = program("""
async def main():
    agent = ForkedAgent.fork(["--grid", "own"])
    agent.go()
    waiting = asyncio.create_task(agent.wait())
    done, _ = await asyncio.wait({waiting}, timeout=0.2)
    assert not done
    os.write(agent._leash, b"x")
    assert await waiting == 3 == agent.returncode
asyncio.run(main())
""")
    assert (done.returncode, done.stdout) == (0, "told agent --leash --told --grid own\n"), done.stderr


def test_it_ends_without_a_word_when_whoever_forked_it_has_died() -> None:
    done = program("ForkedAgent.fork([])\nsys.stdout.flush()\nos._exit(0)\n")  # stdout ends with the agent
    assert done.stdout == "let go agent --leash --told\n", done.stderr


def test_it_keeps_nothing_open_that_is_not_its_own() -> None:
    done = program("""
near, far = os.pipe()
agent = ForkedAgent.fork([], [far])
os.close(far)
print(os.read(near, 1))  # the end, while the agent lives
agent.let_go()
""")
    assert done.stdout.splitlines()[0] == "b''", done.stderr


def test_one_that_has_died_is_followed_by_one_that_is_started() -> None:
    done = program("""
async def main():
    first = ForkedAgent.fork([])
    kept = AgentSupervisor([], first)
    kept._command = [sys.executable, "-c", "import os; print('another', flush=True); os.read(0, 1)"]
    async with kept.running():
        kept.go()
        os.kill(first.pid, 9)
        while kept._process is first:
            await asyncio.sleep(0.01)
asyncio.run(main())
print("over")
""")
    assert done.returncode == 0, done.stderr
    assert "over" in done.stdout
    assert "this machine's agent ended (-9)" in done.stderr


def test_nothing_is_said_to_one_that_has_ended() -> None:
    done = program("""
import select
async def main():
    agent = ForkedAgent.fork([])
    agent.let_go()
    await agent.wait()
    pipes = [os.pipe() for _ in range(8)]  # one of which has the leash's number now
    agent.go()
    agent.let_go()
    assert select.select([near for near, _ in pipes], [], [], 0) == ([], [], [])
    for _, far in pipes:
        os.write(far, b"x")
asyncio.run(main())
""")
    assert done.returncode == 0, done.stderr


def test_the_supervisor_ends_it_with_the_grid() -> None:
    done = program("""
async def main():
    first = ForkedAgent.fork([])
    async with AgentSupervisor([], first).running():
        await asyncio.sleep(0)
    assert first.returncode == -15, first.returncode
    assert not os.path.exists(f"/proc/{first.pid}")
asyncio.run(main())
""")
    assert done.returncode == 0, done.stderr
