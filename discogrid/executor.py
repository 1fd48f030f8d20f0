"""`concurrent.futures.Executor` whose workers are on a grid."""

from collections.abc import Callable, Iterable
from typing import Any, Unpack

from discogrid.calls.executor import CallExecutor
from discogrid.remote.early import open_calls
from discogrid.remote.keywords import CallKeywords, call_options


class Executor(CallExecutor):
    """Real futures: `wait`, `as_completed` and asyncio's `run_in_executor` take them as they take those of processes."""

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: object = None,  # noqa: ARG002 (ProcessPoolExecutor's: how processes are started here)
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] | Iterable[Any] = (),
        *,
        max_tasks_per_child: int | None = None,
        **asked: Unpack[CallKeywords],
    ) -> None:
        """Open an executor of `max_workers` calls at a time; None: as many as there are slots.

        The first arguments are those of ProcessPoolExecutor, with its ValueError and TypeError; the keywords, and the
        other errors, are those of `discogrid.Pool`.
        """
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if max_tasks_per_child is not None:
            if not isinstance(max_tasks_per_child, int):
                raise TypeError("max_tasks_per_child must be an integer")
            if max_tasks_per_child <= 0:
                raise ValueError("max_tasks_per_child must be >= 1")
        options = call_options(
            asked,
            processes=max_workers,
            initializer=initializer,
            initargs=initargs,
            calls_max=max_tasks_per_child,
        )
        super().__init__(open_calls(options))
