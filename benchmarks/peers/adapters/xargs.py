"""xargs: what starting programs costs when nobody but the kernel has a say."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from benchmarks.peers.peer import Function, NotOffered, Peer, program, run_quietly, words_for


class Xargs(Peer):
    """The floor of scripts."""

    name = "xargs"
    includes = "`xargs -P`: a process for each script and nothing else, no isolation, no results"

    def start(self) -> None:
        """See Peer."""
        self._words = [program("xargs"), f"-P{self.workers}", "-L1"]

    def stop(self) -> None:
        """See Peer: it has ended with its last script."""

    def map(self, function: Function, items: Sequence[Any]) -> NoReturn:  # noqa: ARG002
        """See Peer."""
        raise NotOffered("it runs programs, not calls")

    def victims(self) -> NoReturn:
        """See Peer."""
        raise NotOffered("it has no workers")

    def no_op(self) -> None:
        """See Peer: the program `true`."""
        run_quietly([*self._words, "true"], self.folder, ["x"])

    def scripts(self, folder: Path, script: str, inputs: Sequence[str]) -> dict[str, float]:
        """See Peer."""
        first = str(folder / script)
        lines = [" ".join(words_for(folder, script, name)[1:]) for name in inputs]
        began = time.perf_counter()
        run_quietly([*self._words, sys.executable, first], folder, lines)
        return {"scripts/s": time.perf_counter() - began}
