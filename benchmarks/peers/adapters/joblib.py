"""joblib with its own backend, loky."""

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from benchmarks.peers.peer import Function, Peer, Received


class Joblib(Peer):
    """joblib.Parallel; its default is batches whose size follows from how long calls take."""

    name = "joblib"
    includes = "loky's processes, OS pipes, cloudpickle, no sockets, no isolation"
    packages = ("joblib",)
    module = "joblib"

    def start(self) -> None:
        """See Peer."""
        os.environ["JOBLIB_TEMP_FOLDER"] = str(self.folder)  # else in /dev/shm, where it stays after a kill
        import joblib

        self._delayed = joblib.delayed
        self._single = joblib.Parallel(n_jobs=self.workers, batch_size=1)
        self._batches = joblib.Parallel(n_jobs=self.workers)
        self._stream = joblib.Parallel(n_jobs=self.workers, return_as="generator_unordered")
        self._single.__enter__()  # keeps its workers
        self._batches.__enter__()

    def stop(self) -> None:
        """See Peer."""
        from joblib.externals.loky import get_reusable_executor

        self._single.__exit__(None, None, None)
        self._batches.__exit__(None, None, None)
        get_reusable_executor().shutdown(wait=False, kill_workers=True)

    def map(self, function: Function, items: Sequence[Any]) -> list[Any]:
        """See Peer."""
        return list(self._single(self._delayed(function)(item) for item in items))

    def map_by_default(self, function: Function, items: Sequence[Any]) -> list[Any]:
        """See Peer."""
        return list(self._batches(self._delayed(function)(item) for item in items))

    def unordered(self, function: Function, items: Iterable[Any]) -> Iterator[Any]:
        """See Peer."""
        return iter(self._stream(self._delayed(function)(item) for item in items))

    def received(self, function: Function, items: Sequence[Any], patience_s: float) -> Received:
        """See Peer: it has no answers of single calls, but gives results as they come."""
        results: list[Any] = []
        errors: list[str] = []

        def take() -> None:
            try:
                results.extend(self.unordered(function, items))
            except Exception as error:  # noqa: BLE001 (whatever it makes of a lost worker)
                errors.append(f"{type(error).__name__}: {error}")

        taking = threading.Thread(target=take, daemon=True)
        taking.start()
        taking.join(patience_s)
        return Received(list(results), errors[0] if errors else "")
