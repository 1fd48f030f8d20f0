"""Keeps the first and the last bytes of a stream that may be endless."""

from collections import deque

CHUNK_BYTES = 64 * 1024  # of the tail, in one piece of memory; a log may come byte by byte


class LogKeeper:
    """The head and the tail of what was written, within `limit` bytes; says what was cut between them."""

    def __init__(self, limit: int) -> None:
        """Keep `limit` bytes: half from the start, half from the end."""
        self.total = 0  # bytes ever written
        self._head_limit = limit // 2
        self._tail_limit = limit - self._head_limit
        self._head = bytearray()
        self._tail: deque[bytearray] = deque()
        self._tail_bytes = 0

    def add(self, part: bytes) -> None:
        """Take what was written next."""
        self.total += len(part)
        room = self._head_limit - len(self._head)
        if room > 0:
            self._head += part[:room]
            part = part[room:]
        if not part:
            return
        if self._tail and len(self._tail[-1]) + len(part) <= CHUNK_BYTES:
            self._tail[-1] += part
        else:
            self._tail.append(bytearray(part))
        self._tail_bytes += len(part)
        while self._tail and self._tail_bytes - len(self._tail[0]) >= self._tail_limit:
            self._tail_bytes -= len(self._tail.popleft())

    def after(self, offset: int, limit: int) -> tuple[int, bytes]:
        """At most `limit` bytes from `offset` on, and where they begin: later than asked for if that was cut."""
        if offset < len(self._head):
            return offset, bytes(self._head[offset : offset + limit])
        offset = min(max(offset, len(self._head), self.total - self._tail_limit), self.total)
        found = bytearray()
        start = self.total - self._tail_bytes
        for chunk in self._tail:
            if start + len(chunk) > offset:
                found += chunk[max(0, offset - start) :][: limit - len(found)]
            if len(found) == limit:
                break
            start += len(chunk)
        return offset, bytes(found)

    def parts(self) -> list[tuple[int, bytes]]:
        """What is kept, with the offset of each part in the stream; between two parts bytes may be missing."""
        tail = b"".join(self._tail)[-self._tail_limit :] if self._tail_limit else b""
        found = [(0, bytes(self._head)), (self.total - len(tail), tail)]
        return [(offset, part) for offset, part in found if part]

    def kept(self) -> bytes:
        """All that is kept; where something is missing, a line says how much."""
        text = bytearray()
        end = 0
        for offset, part in [*self.parts(), (self.total, b"")]:
            if offset > end:
                text += f"\n[… {offset - end:,} bytes cut …]\n".encode()
            text += part
            end = offset + len(part)
        return bytes(text)

    def tail(self, limit: int) -> bytes:
        """The last bytes written, at most `limit` of those that are kept without a gap."""
        parts = self.parts()
        whole = (
            b"".join(part for _, part in parts) if sum(len(part) for _, part in parts) == self.total else b""
        )
        return (whole or (parts[-1][1] if parts else b""))[-limit:]
