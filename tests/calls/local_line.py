"""A line to worker processes of this machine: what a grid is to a pool, without the grid."""

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from discogrid.calls import functions
from discogrid.calls.dispatch import Answer, Dispatcher
from discogrid.calls.frames import (
    Call,
    Calls,
    FromWorker,
    Open,
    Part,
    Raised,
    Reader,
    Returned,
    Start,
    Started,
    frame,
    from_worker,
    whole,
    write_all,
)
from discogrid.calls.pool import CallPool


class LocalWorker:
    def __init__(self, initializer: bytes) -> None:
        inbox, self.to = os.pipe()
        self.back, outbox = os.pipe()
        words = [sys.executable, "-m", "discogrid.calls.worker", f"/dev/fd/{inbox}", f"/dev/fd/{outbox}"]
        self.process = subprocess.Popen(words, pass_fds=(inbox, outbox), stdin=subprocess.DEVNULL)
        os.close(inbox)
        os.close(outbox)
        self.known: set[int] = set()
        self.reader = Reader()
        write_all(self.to, frame(Start(initializer)))
        assert self._hear() == [Started()]

    def _hear(self) -> list[FromWorker]:
        """What it has said meanwhile, waiting for something; nothing when it has ended."""
        while piece := os.read(self.back, 1 << 16):
            if said := list(map(from_worker, self.reader.feed(piece))):
                return said
        return []

    def run(self, functions_: dict[int, bytes], calls: Sequence[Call]) -> Iterator[list[Answer]]:
        for number in {call.function for call in calls} - self.known:
            write_all(self.to, frame(Open(number, functions_[number])))
            self.known.add(number)
        write_all(self.to, frame(Calls(tuple(map(whole, calls)))))
        left = len(calls)
        while left and (said := self._hear()):
            answers: list[Answer] = [one for one in said if isinstance(one, Returned | Raised | Part)]
            left -= sum(not isinstance(one, Part) or one.last for one in answers)
            yield answers

    def close(self) -> None:
        os.close(self.to)
        self.process.wait()
        os.close(self.back)


class LocalLine:
    def __init__(self, dispatcher: Dispatcher, slots: int, initializer: bytes = b"") -> None:
        self.slots = slots
        self.most = None
        self.sent: list[int] = []  # sizes of chunks
        self._dispatcher = dispatcher
        self._initializer = initializer
        self._functions: dict[int, bytes] = {}
        self._chunks: queue.SimpleQueue[Sequence[Call] | None] = queue.SimpleQueue()
        self._workers: list[LocalWorker] = []
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(slots)]
        self._lock = threading.Lock()
        self._over = False
        for thread in self._threads:
            thread.start()

    def open(self, function: int, content: bytes) -> None:
        self._functions[function] = content

    def send(self, chunks: Sequence[Sequence[Call]]) -> None:
        for calls in chunks:
            self.sent.append(sum(call.count or 1 for call in calls))
            self._chunks.put(calls)

    def close(self) -> None:
        for _ in self._threads:
            self._chunks.put(None)

    def terminate(self) -> None:
        with self._lock:
            self._over = True
            for worker in self._workers:
                worker.process.kill()
        self.close()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _is_over(self) -> bool:
        with self._lock:
            return self._over

    def _work(self) -> None:
        worker: LocalWorker | None = None
        while (calls := self._chunks.get()) is not None:
            if self._is_over():
                break
            if worker is None:
                worker = LocalWorker(self._initializer)
                with self._lock:
                    self._workers.append(worker)
                if self._is_over():
                    worker.process.kill()
            try:
                for answers in worker.run(self._functions, calls):
                    self._dispatcher.answered(answers, trusted=True)
            except BrokenPipeError:
                if not self._is_over():  # it was killed while it was given more
                    raise
        if worker is not None:
            worker.close()


def local_pool(
    processes: int | None = None,
    initializer: Callable[..., object] | None = None,
    initargs: Iterable[object] = (),
) -> CallPool:
    """With the first arguments of multiprocessing.Pool."""
    if processes is None:
        processes = os.cpu_count() or 1
    if processes < 1:
        raise ValueError("Number of processes must be at least 1")
    if initializer is not None and not callable(initializer):
        raise TypeError("initializer must be a callable")
    return CallPool(local(processes, None if initializer is None else partial(initializer, *initargs)))


def local(slots: int, initializer: Callable[[], object] | None = None) -> Dispatcher:
    packed = functions.pack(initializer) if initializer else b""
    return Dispatcher(lambda dispatcher: LocalLine(dispatcher, slots, packed))
