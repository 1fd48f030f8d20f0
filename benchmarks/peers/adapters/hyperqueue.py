"""HyperQueue as its Python package brings it: a local cluster, whose tasks are programs."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from benchmarks.peers.peer import Function, NotOffered, Peer, words_for


class HyperQueue(Peer):
    """Its server and its workers are threads of this process, and no call has a result."""

    name = "hyperqueue"
    includes = (
        "server and workers as threads of the client, TCP on loopback, a process for each task, no results"
    )
    packages = ("hyperqueue", "cloudpickle")
    module = "hyperqueue"
    shares: ClassVar = {"W1": 0.1, "W2": 0.02}

    def start(self) -> None:
        """See Peer."""
        from hyperqueue import Job, LocalCluster
        from hyperqueue.cluster import WorkerConfig

        self._job: Any = Job
        self._cluster = LocalCluster(worker_config=WorkerConfig(cores=self.workers))
        self._client = self._cluster.client()

    def stop(self) -> None:
        """See Peer."""
        self._cluster.stop()

    def map(self, function: Function, items: Sequence[Any]) -> NoReturn:  # noqa: ARG002
        """See Peer."""
        raise NotOffered("its tasks return nothing to the client")

    def victims(self) -> NoReturn:
        """See Peer."""
        raise NotOffered("its workers are threads of the client: none can be killed alone")

    def no_ops(self, count: int) -> None:
        """See Peer: the program `true`."""
        self._run([["true"]] * count)

    def no_op(self) -> None:
        """See Peer."""
        self._run([["true"]])

    def scripts(self, folder: Path, script: str, inputs: Sequence[str]) -> dict[str, float]:
        """See Peer."""
        began = time.perf_counter()
        self._run([[sys.executable, *words_for(folder, script, name)] for name in inputs])
        return {"scripts/s": time.perf_counter() - began}

    def seen_afresh(self, count: int) -> float:
        """See Peer."""
        call = "from benchmarks.peers.calls import seen; seen(1)"
        began = time.perf_counter()
        self._run([[sys.executable, "-c", call]] * count)
        return time.perf_counter() - began

    def _run(self, programs: Sequence[Sequence[str]]) -> None:
        job = self._job(default_workdir=str(self.folder), max_fails=None)
        for words in programs:
            job.program(list(words), stdout=None, stderr=None)
        self._client.wait_for_jobs([self._client.submit(job)])
