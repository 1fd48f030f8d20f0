"""A line whose workers may die, be ended, or end after so many calls, as those of a grid may."""

from collections.abc import Sequence

import pytest

from discogrid.calls import exceptions, functions
from discogrid.calls.dispatch import Dispatcher
from discogrid.calls.frames import Call, Raised
from discogrid.errors import WorkerLost
from discogrid.remote.options import CallOptions
from tests.calls.local_line import LocalLine, LocalWorker

FACES = ("discogrid.pool", "discogrid.executor", "discogrid.remote.shared")


class MortalLine(LocalLine):
    job = "k3f9"

    def __init__(self, dispatcher: Dispatcher, options: CallOptions) -> None:
        self.options = options
        self.running: dict[int, LocalWorker] = {}
        self.given_up: set[int] = set()
        self.terminated = False
        packed = functions.pack(options.initializer) if options.initializer else b""
        super().__init__(dispatcher, options.processes or 2, packed)

    def end(self, number: int) -> None:
        with self._lock:
            self.given_up.add(number)
            if number in self.running:
                self.running[number].process.kill()

    def terminate(self) -> None:
        self.terminated = True
        super().terminate()

    def _work(self) -> None:
        worker: LocalWorker | None = None
        made = 0
        while (calls := self._chunks.get()) is not None and not self._is_over():
            for call in calls:
                if call.number in self.given_up:
                    continue
                if worker is None:
                    worker, made = self._worker(), 0
                made += 1
                if not self._run(worker, call) or made == self.options.calls_max:
                    worker.close()
                    worker = None
        if worker is not None:
            worker.close()

    def _worker(self) -> LocalWorker:
        worker = LocalWorker(self._initializer)
        with self._lock:
            self._workers.append(worker)
        if self._is_over():
            worker.process.kill()
        return worker

    def _run(self, worker: LocalWorker, call: Call) -> bool:
        """Whether the worker lives on."""
        with self._lock:
            self.running[call.number] = worker
            if call.number in self.given_up:
                worker.process.kill()
        answers = self._answers(worker, [call])
        with self._lock:
            del self.running[call.number]
        if not answers:
            worker.process.wait()
            lost = WorkerLost("the process that ran the call has died", exit_status=worker.process.returncode)
            self._dispatcher.answered([Raised(call.number, 0.0, exceptions.pack(lost))], trusted=True)
        return bool(answers)

    def _answers(self, worker: LocalWorker, calls: Sequence[Call]) -> int:
        answered = 0
        try:
            for answers in worker.run(self._functions, calls):
                answered += len(answers)
                self._dispatcher.answered(answers, trusted=True)
        except OSError:  # its pipe is broken
            return 0
        return answered


class Openings:
    """What the faces have opened in place of a grid."""

    def __init__(self) -> None:
        self.options: list[CallOptions] = []
        self.dispatchers: list[Dispatcher] = []

    def open(self, options: CallOptions) -> Dispatcher:
        self.options.append(options)
        self.dispatchers.append(Dispatcher(lambda dispatcher: MortalLine(dispatcher, options)))
        return self.dispatchers[-1]

    def line(self, index: int = -1) -> MortalLine:
        line = self.dispatchers[index]._line
        assert isinstance(line, MortalLine)
        return line

    def close(self) -> None:
        for dispatcher in self.dispatchers:
            dispatcher.terminate(RuntimeError("the test is over"))
            dispatcher.join()


def in_place_of_a_grid(monkeypatch: pytest.MonkeyPatch) -> Openings:
    openings = Openings()
    for module in FACES:
        monkeypatch.setattr(f"{module}.open_calls", openings.open)
    monkeypatch.setattr("discogrid.remote.shared._open", {})
    return openings
