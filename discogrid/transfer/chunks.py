"""How blobs are cut, the same on both sides."""

from discogrid import transport

CHUNK_BYTES = transport.CHUNK_BYTES_MAX
CREDIT_CHUNKS = 8  # of one blob that may be on their way before the receiver answers


def chunk_length(size: int, offset: int) -> int:
    """Bytes of the chunk at `offset` of a blob of `size` bytes; -1 when there is none. An empty blob is one empty chunk."""
    if offset < 0 or offset % CHUNK_BYTES or offset >= max(size, 1):
        return -1
    return min(CHUNK_BYTES, size - offset)
