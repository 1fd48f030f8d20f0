"""W8: what a long stream of calls makes of the memory of the client."""

import gc
import time
from collections.abc import Mapping

from benchmarks.peers import calls, processes
from benchmarks.peers.peer import Peer
from benchmarks.peers.sizes import Sizes

LOOKED_EVERY = 1_000  # results
MEGA = 1e6


def client_memory(peer: Peer, sizes: Sizes) -> Mapping[str, float]:
    """How fast results come, and by how much the client's resident memory grew at most meanwhile.

    The results are counted and thrown away. What grows below the client, in its workers or daemons, does not count.
    """
    gc.collect()
    before = most = processes.resident_bytes()
    began = time.perf_counter()
    count = total = 0
    for result in peer.unordered(calls.same, range(sizes.stream)):
        count, total = count + 1, total + result
        if count % LOOKED_EVERY == 0:
            most = max(most, processes.resident_bytes())
    took = time.perf_counter() - began
    most = max(most, processes.resident_bytes())
    if (count, total) != (sizes.stream, sum(range(sizes.stream))):
        raise RuntimeError(f"{peer.name} gave {count} results of {sizes.stream}")
    return {"calls/s": count / took, "MB more in the client": (most - before) / MEGA}
