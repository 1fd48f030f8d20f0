"""The thread that waits for the disk: one batch at a time, its blobs first, then the rows that name them.

Where a job is dropped it is the other way round: first the rows, then the blobs that nobody names any more.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

from discogrid.blobs import BlobStore
from discogrid_coordinator.engine import Batch
from discogrid_coordinator.journal import Journal


def write(batch: Batch, journal: Journal, store: BlobStore) -> None:
    """Return when all of it is durable; sqlite3.Error, OSError or BlobError when it is not."""
    if batch.blobs:
        store.sync(batch.blobs)
    journal.write(batch.writes)
    for job in batch.forgotten:
        job.remove_blobs(store)


class Writer:
    """Writes for one event loop, on which everything here is called."""

    def __init__(
        self, journal: Journal, store: BlobStore, on_end: Callable[[Batch, BaseException | None], None]
    ) -> None:
        """`on_end` is told once of each batch: None when it is durable, else what went wrong."""
        self._journal = journal
        self._store = store
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, "journal")
        self._current: tuple[Batch, Future[None]] | None = None

    @property
    def busy(self) -> bool:
        """Whether a batch is on its way to the disk."""
        return self._current is not None

    def begin(self, batch: Batch) -> None:
        """Write a batch; none may be on its way."""
        assert self._current is None, "one batch at a time: the next ones share a commit"
        future = self._thread.submit(write, batch, self._journal, self._store)
        self._current = (batch, future)
        future.add_done_callback(lambda done: self._loop.call_soon_threadsafe(self._ended, done))

    def wait(self) -> None:
        """Let everything stand still until the batch on its way has ended, and `on_end` has been told."""
        if self._current is not None:
            _, future = self._current
            wait([future])
            self._ended(future)

    def close(self) -> None:
        """Wait for the batch on its way, and for those that `on_end` begins after it; then end the thread."""
        while self._current is not None:
            self.wait()
        self._thread.shutdown()

    def _ended(self, future: Future[None]) -> None:
        if self._current is None or self._current[1] is not future:
            return  # it was waited for
        batch, _ = self._current
        self._current = None
        self._on_end(batch, future.exception())
