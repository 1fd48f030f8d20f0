"""Small blobs that came along with a message, in memory until their job or their last task here is over."""

from collections.abc import Iterable

from discogrid.transfer import unpack_small
from discogrid.types import Digest, FileRef, JobId

KEPT_BYTES_MAX = 64 << 20  # what comes beyond is fetched like a large blob


class SmallBlobs:
    """Content by digest, verified when it came."""

    def __init__(self) -> None:
        """Nothing has come yet."""
        self._content: dict[Digest, bytes] = {}
        self._jobs: dict[JobId, set[Digest]] = {}
        self._bytes = 0

    def keep(self, job: JobId, riders: bytes, wanted: Iterable[FileRef]) -> None:
        """Take what is wanted of a message's riders; WireError when they are none."""
        if not riders:
            return
        for digest, content in unpack_small(riders, {file.digest: file for file in wanted}).items():
            if digest not in self._content and self._bytes + len(content) <= KEPT_BYTES_MAX:
                self._content[digest] = content
                self._bytes += len(content)
            self._jobs.setdefault(job, set()).add(digest)

    def get(self, digest: Digest) -> bytes | None:
        """The content, if it came along."""
        return self._content.get(digest)

    def drop(self, digest: Digest) -> None:
        """Nothing needs it now."""
        if (content := self._content.pop(digest, None)) is not None:
            self._bytes -= len(content)

    def forget(self, job: JobId) -> None:
        """The job is over."""
        for digest in self._jobs.pop(job, set()).difference(*self._jobs.values()):
            self.drop(digest)
