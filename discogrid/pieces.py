"""Bytes as they came over a line, one piece after the other: nothing has to copy them into one."""

from collections.abc import Iterator, Sequence


class Pieces:
    """Reads across its pieces. What is asked for beyond the end is not there: the answer is shorter."""

    __slots__ = ("_pieces", "size")

    def __init__(self, *pieces: bytes) -> None:
        """These; `size` is that of all."""
        self._pieces = list(pieces)
        self.size: int = sum(map(len, pieces))

    def append(self, piece: bytes) -> None:
        """One more."""
        self._pieces.append(piece)
        self.size += len(piece)

    def pieces(self) -> Sequence[bytes]:
        """All of them."""
        return self._pieces

    def read(self, start: int, size: int) -> bytes:
        """Some of the bytes. What is exactly a piece is that itself."""
        found = [
            piece if len(piece) == stop - begin else piece[begin:stop]
            for piece, begin, stop in self._span(start, size)
        ]
        return found[0] if len(found) == 1 else b"".join(found)

    def fill(self, start: int, target: bytearray) -> None:
        """As many of the bytes as the target has room for."""
        at = 0
        for piece, begin, stop in self._span(start, len(target)):
            target[at : at + stop - begin] = memoryview(piece)[begin:stop]
            at += stop - begin

    def _span(self, start: int, size: int) -> Iterator[tuple[bytes, int, int]]:
        """Of each piece that has some of these bytes, where they begin and end in it."""
        for piece in self._pieces:
            if size <= 0:
                return
            if start < len(piece):
                stop = min(start + size, len(piece))
                yield piece, start, stop
                size -= stop - start
                start = 0
            else:
                start -= len(piece)
