"""How many blobs a server sends at the same time. Pure: told the time, touches nothing.

A get needs no memory at the server, so that an upload is what was asked for lately and not yet to its end.
"""

from discogrid.types import Digest

IDLE_S = 5.0
"""An upload of which no chunk was asked for in so long has ended."""


class Uploads:
    """Uploads under way, by who reads what."""

    def __init__(self, at_once_max: int) -> None:
        """None yet; at most `at_once_max` at the same time."""
        self._at_once_max = at_once_max
        self._asked: dict[tuple[str, Digest], float] = {}

    def take(self, reader: str, digest: Digest, now: float) -> bool:
        """A chunk is asked for: True when the upload goes on or may begin."""
        upload = (reader, digest)
        if upload not in self._asked and len(self._asked) >= self._at_once_max:
            self._asked = {other: asked for other, asked in self._asked.items() if now - asked < IDLE_S}
            if len(self._asked) >= self._at_once_max:
                return False
        self._asked[upload] = now
        return True

    def end(self, reader: str, digest: Digest) -> None:
        """Its last chunk was sent."""
        self._asked.pop((reader, digest), None)
