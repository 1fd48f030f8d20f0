"""`multiprocessing.Pool` whose processes are on a grid."""

from collections.abc import Callable, Iterable
from typing import Any, Unpack

from discogrid.calls.pool import CallPool
from discogrid.remote.early import open_calls
from discogrid.remote.keywords import CallKeywords, call_options


class Pool(CallPool):
    """The methods, arguments, results and errors of multiprocessing.Pool; calls run in the slots of a grid's agents.

    Without further ado that is the grid which this machine has joined, or else this machine's own.
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: object = None,  # noqa: ARG002 (multiprocessing's: how processes are started here)
        **asked: Unpack[CallKeywords],
    ) -> None:
        """Open a pool of `processes` calls at a time; None: as many as there are slots.

        `initializer(*initargs)` runs first in each worker; a worker ends after `maxtasksperchild` calls. Keywords:

        - `grid`: the name of a joined one; `local`: this machine's own grid, whatever was joined
        - `box`: calls run in a box on this machine's own grid, too, as they always do elsewhere
        - `network`: calls have one in their box, on agents whose owner allows it
        - `timeout`: seconds that one call may run, or text such as "15m"
        - `cpus`, `gpus`, `memory` (bytes, or text such as "2G"): what each call takes
        - `needs`: modules and programs that agents must have; `const`: files that lie beside each call
        - `name`: of the job, as `discogrid ls` shows it

        ValueError and TypeError as multiprocessing raises them, and for keywords that mean nothing. GridError when no grid
        is in reach, NoAgentFits and VersionMismatch when none of its agents could run a call.
        """
        if processes is not None and processes < 1:
            raise ValueError("Number of processes must be at least 1")
        if maxtasksperchild is not None and (not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0):
            raise ValueError("maxtasksperchild must be a positive int or None")
        options = call_options(
            asked,
            processes=processes,
            initializer=initializer,
            initargs=initargs,
            calls_max=maxtasksperchild,
        )
        super().__init__(open_calls(options))
