"""Every peer by its name. What a peer itself needs is imported when it starts."""

from benchmarks.peers.adapters.curve_echo import CurveEcho
from benchmarks.peers.adapters.dask import Dask
from benchmarks.peers.adapters.discogrid import DiscogridGrid, DiscogridOwn
from benchmarks.peers.adapters.hyperqueue import HyperQueue
from benchmarks.peers.adapters.ipyparallel import Ipyparallel
from benchmarks.peers.adapters.joblib import Joblib
from benchmarks.peers.adapters.parsl import Parsl
from benchmarks.peers.adapters.ray import Ray
from benchmarks.peers.adapters.standard import Forkserver, Futures, Multiprocessing
from benchmarks.peers.adapters.xargs import Xargs
from benchmarks.peers.peer import Peer

_ALL: tuple[type[Peer], ...] = (
    Xargs,
    Multiprocessing,
    Forkserver,
    Futures,
    Joblib,
    Dask,
    Ray,
    Parsl,
    Ipyparallel,
    HyperQueue,
    CurveEcho,
    DiscogridOwn,
    DiscogridGrid,
)
PEERS: dict[str, type[Peer]] = {peer.name: peer for peer in _ALL}
