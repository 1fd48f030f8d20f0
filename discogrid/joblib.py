"""joblib on a grid: `import discogrid.joblib`, then `with joblib.parallel_config(backend="discogrid"):` around what is there.

So scikit-learn's searches and ensembles run on it. The agents need joblib, and what the calls import, as they need it for
any call.
"""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from discogrid.calls.executor import CallExecutor
from discogrid.errors import MissingProgram
from discogrid.remote.keywords import call_options
from discogrid.remote.shared import shared

try:
    from joblib.parallel import ParallelBackendBase, register_parallel_backend
except ImportError as _error:
    raise MissingProgram(
        "joblib is not installed, for which discogrid.joblib is a backend", fix="pip install joblib"
    ) from _error

NAME = "discogrid"
SLOTS_S = 5.0  # that the first loop waits for an agent, to know how many calls run at a time


class _GridBackend(ParallelBackendBase):  # type: ignore[misc]  # joblib has no types
    """What joblib calls a backend. Its keywords are those of `discogrid.Pool`: grid, local, box, needs, memory and so on."""

    supports_retrieve_callback = True
    supports_sharedmem = False
    uses_threads = False

    def __init__(
        self, nesting_level: int | None = None, inner_max_num_threads: int | None = None, **asked: Any
    ) -> None:
        """Nothing is opened before the first call. TypeError for a keyword that nobody knows."""
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        needs = asked.pop("needs", ())
        names = tuple(needs.split(",")) if isinstance(needs, str) else tuple(needs)
        self._options = call_options({**asked, "needs": (*names, "joblib")})  # type: ignore[typeddict-item]
        self._executor: CallExecutor | None = None

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many calls run at a time; -1: as many as the grid has slots, of those that are known now."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        if n_jobs > 0:
            return n_jobs
        return max(1, shared(self._options).slots(SLOTS_S) + 1 + n_jobs)

    def configure(self, n_jobs: int = 1, parallel: Any = None, **_: Any) -> int:
        """See ParallelBackendBase; errors of the grid as for `discogrid.Pool`."""
        self.parallel = parallel
        jobs = self.effective_n_jobs(n_jobs)
        self._executor = CallExecutor(shared(self._options))
        return jobs

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], None] | None = None) -> Future[Any]:
        """See ParallelBackendBase."""
        assert self._executor is not None, "after `configure`"
        future = self._executor.submit(func)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """See ParallelBackendBase."""
        return out.result()

    def terminate(self) -> None:
        """The job on the grid stays for the next loop, as loky's workers do; it ends with the program."""
        self._executor = None

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Nothing more of this loop is begun."""
        if self._executor is not None:
            self._executor.cancel_all()
        if ensure_ready:
            self.configure(n_jobs=self.parallel.n_jobs, parallel=self.parallel)


register_parallel_backend(NAME, _GridBackend)
