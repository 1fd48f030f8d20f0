"""A link that speaks messages: frames in, typed messages out; what is no message is logged and dropped."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from discogrid.errors import WireError
from discogrid.messages import AnyMessage, Message
from discogrid.transport import LINGER_MS, Delivery, Link
from discogrid.wire import decode, encode

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Received:
    """One message, who sent it and where an answer goes."""

    message: AnyMessage
    payload: list[bytes]
    sender: str
    route: bytes
    address: str = ""  # the host it came from, where that is known


class Channel:
    """Sends messages over the link that `open_link` makes of this channel's receiver."""

    def __init__(
        self,
        open_link: Callable[[Callable[[list[Delivery]], None]], Link],
        on_messages: Callable[[list[Received]], None],
    ) -> None:
        """`on_messages` gets everything that one wake-up brought."""
        self._on_messages = on_messages
        self._link = open_link(self._receive)

    @property
    def endpoint(self) -> str:
        """Where it listens or dials."""
        return self._link.endpoint

    def send(self, message: Message, *payload: bytes, route: bytes = b"") -> bool:
        """Send; False when the peer is gone or takes no more."""
        return self._link.send([encode(message), *payload], route)

    def close(self, *, linger_ms: int = LINGER_MS) -> None:
        """Close the link; what was sent last has `linger_ms` to leave."""
        self._link.close(linger_ms=linger_ms)

    def _receive(self, deliveries: list[Delivery]) -> None:
        received = []
        for delivery in deliveries:
            try:
                message = decode(delivery.frames[0])
            except WireError as error:
                log.warning(
                    "a message of %s was dropped: %s", delivery.sender[:8] or "the coordinator", error
                )
                continue
            received.append(
                Received(message, delivery.frames[1:], delivery.sender, delivery.route, delivery.address)
            )
        if received:
            self._on_messages(received)
