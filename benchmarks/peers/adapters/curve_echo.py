"""What CURVE alone costs: messages to another process and back over TCP, and nothing done with them.

No peer, but the floor of every grid that encrypts what it sends; a call over a coordinator crosses twice as many sockets.
"""

import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.peers import calls
from benchmarks.peers.peer import Function, NotOffered, Peer

BOUND = "tcp://127.0.0.1:*"


class CurveEcho(Peer):
    """A DEALER here, and a ROUTER in a process of its own, with as many messages on their way as there are workers."""

    name = "curve-echo"
    includes = "no calls: pyzmq alone, TCP on loopback, CURVE"
    echoes = True

    def start(self) -> None:
        """See Peer."""
        import zmq

        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        endpoint, key = self._process.stdout.readline().split(" ", 1)
        self._context = zmq.Context()
        self._line = self._context.socket(zmq.DEALER)
        self._line.linger = 0
        self._line.curve_publickey, self._line.curve_secretkey = zmq.curve_keypair()
        self._line.curve_serverkey = key.rstrip("\n").encode()
        self._line.connect(endpoint)

    def stop(self) -> None:
        """See Peer."""
        self._context.destroy()
        self._process.terminate()
        self._process.wait()

    def no_op(self) -> None:
        """See Peer."""
        self._line.send(b"")
        self._line.recv()

    def map(self, function: Function, items: Sequence[Any]) -> list[Any]:
        """See Peer: the items themselves."""
        if function is not calls.turned:
            raise NotOffered("it echoes bytes, and calls nothing")
        back: list[Any] = []
        for sent, item in enumerate(items, 1):
            self._line.send(item, copy=False)
            if sent >= self.workers:
                back.append(self._line.recv())
        while len(back) < len(items):
            back.append(self._line.recv())
        return back

    def one(self, function: Function, item: Any) -> Any:
        """See Peer."""
        return self.map(function, [item])[0]


def main() -> None:
    """Send back whatever comes, until this process is ended."""
    import zmq

    context = zmq.Context()
    line = context.socket(zmq.ROUTER)
    line.curve_server = True
    key, line.curve_secretkey = zmq.curve_keypair()
    line.bind(BOUND)
    endpoint = line.getsockopt(zmq.LAST_ENDPOINT)
    assert isinstance(endpoint, bytes)
    print(endpoint.rstrip(b"\0").decode(), key.decode(), flush=True)
    while True:
        line.send_multipart(line.recv_multipart(copy=False), copy=False)


if __name__ == "__main__":
    main()
