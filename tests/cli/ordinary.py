"""What an ordinary user may not do, also when the tests run as root."""

import contextlib
import os
from collections.abc import Iterator

NOBODY = 65534


@contextlib.contextmanager
def as_an_ordinary_user() -> Iterator[None]:
    """Root lays down its rights for as long as the block runs; anybody else has none to lay down."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
