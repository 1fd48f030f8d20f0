"""Cuts what readers are shown into messages: a header holds 64 KiB, and names and reasons have no one length."""

from collections.abc import Sequence
from typing import TypeVar

import msgspec

PAGE_VIEWS = 128  # views in one message
PAGE_BYTES = 48 * 1024  # of encoded views in one message; the rest of a header is for what goes with them

T = TypeVar("T")

_encoder = msgspec.msgpack.Encoder()


def first_page(views: Sequence[T]) -> Sequence[T]:
    """As many of the first views as one message holds; at least one, when there is one."""
    room = PAGE_BYTES
    for at, view in enumerate(views[:PAGE_VIEWS]):
        room -= len(_encoder.encode(view))
        if room < 0:
            return views[: max(at, 1)]
    return views[:PAGE_VIEWS]
