"""What a pool or an executor asks of the grid for its calls."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOptions:
    """Where and how calls run. Of what is asked for each call, an agent that has less never gets one."""

    grid: str | None = None  # by its name; None: the one that was joined, or this machine's own
    local: bool = False  # this machine's own grid, whatever was joined
    box: bool = False  # in a box on this machine's own grid, too
    network: bool = False  # in the box; its agent's owner has to allow it
    processes: int | None = None  # calls at a time, at most; None: as many as there are slots
    initializer: Callable[[], object] | None = None  # called once in each worker before everything else
    calls_max: int | None = None  # after which a worker ends and another takes its place
    timeout: float | None = None  # seconds that one call may run
    cpus: int = 1  # slots that each call takes
    memory_bytes: int = 0
    gpus: int = 0
    needs: tuple[str, ...] = ()  # modules that can be imported there, and programs on PATH
    const: tuple[Path, ...] = ()  # files that lie in the folder of every call
    name: str = ""  # of its job; empty: that of the program
