"""Answers ZeroMQ's authentication requests (ZAP, RFC 27) of one context, for as long as it lives.

Ours, because the library's authenticator ends for good at the first exception of its callback. In a thread of its own:
a handshake must not wait until a busy event loop has time. No request, however malformed, and no exception ends it.
"""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Final

import zmq
import zmq.utils.z85

from discogrid.errors import DiscogridError

ZAP_ENDPOINT = "inproc://zeromq.zap.01"
ZAP_DOMAIN = b"discogrid"
ZAP_VERSION = b"1.0"
PROOF_MS = 2_000  # an answer of a doorkeeper that lives takes less than one
REQUESTS_WAITING_MAX = 1_000
OPENINGS_MAX = 5  # of its socket, within OPENINGS_S; then something is wrong that trying does not heal
OPENINGS_S = 60.0
KEY_BYTES = 32

Context = zmq.Context[zmq.Socket[bytes]]

log: Final = logging.getLogger(__name__)


class Doorkeeper:
    """Admits whom the roster knows. `admit` is called in its thread."""

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        admit: Callable[[bytes], str | None],
        on_end: Callable[[DiscogridError], object] = lambda _: None,
    ) -> None:
        """`admit` maps a CURVE public key (Z85) to the name its messages carry, or to None: refused.

        `on_end` is told, in the doorkeeper's thread, when it cannot go on; from then on nobody new gets in.
        """
        self._context = context
        self._admit = admit
        self._on_end = on_end
        self._openings: list[float] = []
        where = f"inproc://doorkeeper-{id(self)}"
        self._bell, self._ear = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
        self._bell.linger = self._ear.linger = 0
        self._bell.bind(where)
        self._ear.connect(where)
        self._socket = self._opened()
        self._thread = threading.Thread(target=self._serve, name="doorkeeper", daemon=True)
        self._thread.start()

    @property
    def answering(self) -> bool:
        """Whether its thread lives; `prove` asks it."""
        return self._thread.is_alive()

    def prove(self) -> None:
        """Ask it to admit a key that nobody has; DiscogridError unless it answers, and refuses."""
        sequence = os.urandom(8)
        with self._context.socket(zmq.DEALER) as guest:
            guest.linger = 0
            guest.connect(ZAP_ENDPOINT)
            guest.send_multipart(
                [b"", ZAP_VERSION, sequence, ZAP_DOMAIN, b"", b"", b"CURVE", os.urandom(KEY_BYTES)],
                zmq.NOBLOCK,
            )
            answer = guest.recv_multipart() if self.answering and guest.poll(PROOF_MS) else []
        if answer[1:4] != [ZAP_VERSION, sequence, b"400"]:
            raise DiscogridError("a socket without a doorkeeper would let everybody in, and none answers")

    def close(self) -> None:
        """Stop answering; from now on nobody new gets in."""
        if self._thread.is_alive():
            self._bell.send(b"", zmq.NOBLOCK)
            self._thread.join()
        self._bell.close()

    def _opened(self) -> "zmq.Socket[bytes]":
        # A ROUTER: a REP that failed to answer one request would never hear another.
        socket = self._context.socket(zmq.ROUTER)
        socket.linger = 0
        socket.set(zmq.RCVHWM, REQUESTS_WAITING_MAX)
        socket.bind(ZAP_ENDPOINT)
        self._openings.append(time.monotonic())
        return socket

    def _serve(self) -> None:
        poller = zmq.Poller()
        poller.register(self._ear, zmq.POLLIN)
        poller.register(self._socket, zmq.POLLIN)
        try:
            while True:
                try:
                    ready = dict(poller.poll())
                    if self._ear in ready:
                        return
                    self._answer(self._socket.recv_multipart(zmq.NOBLOCK))
                except zmq.ContextTerminated:
                    return
                except Exception:
                    log.exception("the doorkeeper failed, and begins anew")
                    poller.unregister(self._socket)
                    with contextlib.suppress(zmq.ZMQError):
                        self._socket.unbind(
                            ZAP_ENDPOINT
                        )  # to close it frees the name too, but some time later
                    self._socket.close()
                    self._rest_or_give_up()
                    self._socket = self._opened()
                    poller.register(self._socket, zmq.POLLIN)
        except (zmq.ZMQError, DiscogridError) as error:
            log.critical("the doorkeeper has ended: %s", error)
            self._on_end(
                DiscogridError(
                    f"nobody can be let in any more: {error}", fix="Start it again; what was said is kept."
                )
            )
        finally:
            self._socket.close()
            self._ear.close()

    def _rest_or_give_up(self) -> None:
        now = time.monotonic()
        self._openings = [at for at in self._openings if now - at < OPENINGS_S]
        if len(self._openings) >= OPENINGS_MAX:
            raise DiscogridError(f"the doorkeeper has failed {OPENINGS_MAX} times in {OPENINGS_S:.0f} s")

    def _answer(self, request: list[bytes]) -> None:
        match request:
            case [route, b"", b"1.0" as version, sequence, domain, _, _, mechanism, *credentials]:
                name = self._name(domain, mechanism, credentials)
                status, text = (b"200", b"") if name else (b"400", b"unknown key")
                answer = [route, b"", version, sequence, status, text, (name or "").encode(), b""]
                self._socket.send_multipart(answer, zmq.NOBLOCK)
            case _:
                log.warning("an authentication request of %d parts was not understood", len(request))

    def _name(self, domain: bytes, mechanism: bytes, credentials: list[bytes]) -> str | None:
        if domain != ZAP_DOMAIN or mechanism != b"CURVE" or list(map(len, credentials)) != [KEY_BYTES]:
            return None
        try:
            return self._admit(zmq.utils.z85.encode(credentials[0]))
        except Exception:
            log.exception("the roster could not be asked; the connection is refused")
            return None
