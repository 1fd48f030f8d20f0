"""W6: one of the workers is killed while all of them work."""

import os
import signal
import threading
import time
from collections.abc import Mapping

from benchmarks.peers import calls
from benchmarks.peers.peer import Peer
from benchmarks.peers.sizes import Sizes

KILLED_S = 2.0
PATIENCE_S = 40.0  # some need half a minute to notice


def loss(peer: Peer, sizes: Sizes) -> Mapping[str, float | str]:
    """How much of it came, and, if all of it did, how much later than if nothing had been lost.

    The ideal is that of workers that all live on and cost nothing.
    """
    count = sizes.naps * peer.workers
    peer.map(calls.nap, range(4 * peer.workers))  # all of them are there
    victim = peer.victims()[0]
    killed = threading.Event()
    timer = threading.Timer(KILLED_S, _kill, (victim, killed))
    began = time.perf_counter()
    timer.start()
    received = peer.received(calls.nap, range(count), PATIENCE_S)
    took = time.perf_counter() - began
    timer.cancel()
    if not killed.is_set():
        raise RuntimeError(f"the worker {victim} had ended before it could be killed")
    came = len(set(received.results) & set(range(count)))
    late: float | str = took - sizes.naps * calls.NAP_S
    if came < count:
        late = (
            f"lost: {count - came} of {count} calls had no result after {took:.0f} s: {received.first_error}"
        )
    return {"% received": 100 * came / count, "s over ideal": late}


def _kill(pid: int, killed: threading.Event) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    killed.set()
