"""What a coordinator keeps of a job of Python calls: its batches while their tasks run, and what its client has not seen.

Nothing of it is on the disk: the client holds its calls until they are answered, and makes them again where this is lost.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from discogrid.batches import Batch
from discogrid.errors import SignatureRefused
from discogrid.merkle import Tree, leaf_hash
from discogrid.messages import CallsDone, CallsLost
from discogrid.types import Digest, JobId
from discogrid.wire import pack_parts

CHUNKS_BYTES_MAX = 256 << 20  # of the chunks of one job that wait or run
CHUNKS_WAITING_MAX = 200_000
UNSEEN_BYTES_MAX = 512 << 20  # of answers that a client has not seen; then its job ends


@dataclass(frozen=True, slots=True)
class Parcel:
    """Chunks of one batch as they travel to an agent: neighbours, the proof that they are of it, and its envelope."""

    start: int
    chunks: Sequence[bytes]
    proof: bytes
    envelope: bytes


@dataclass(slots=True)
class Kept:
    """A batch of which something waits or runs."""

    batch: Batch
    chunks: Sequence[bytes]
    tree: Tree
    left: int  # of its tasks, without an end
    bytes: int

    @property
    def start(self) -> int:
        """The place of its first chunk."""
        return self.batch.body.start


@dataclass(frozen=True, slots=True)
class Word:
    """Something that the client has not confirmed."""

    message: CallsDone | CallsLost
    payload: Sequence[bytes]

    @property
    def bytes(self) -> int:
        """What it takes."""
        return sum(map(len, self.payload))


@dataclass(slots=True)
class CallJob:
    """One job of calls that is open. `route` is that of its client."""

    id: JobId
    route: bytes = b""
    tasks: int = 0  # that it has been given
    closed: bool = False  # no more come
    functions: set[Digest] = field(default_factory=set)  # that are here, and kept as long as it is open
    slots: int = -1  # that its client knows of
    _batches: dict[int, Kept] = field(default_factory=dict)  # by their start, in order
    _starts: list[int] = field(default_factory=list)
    _bytes: int = 0
    _chunks: int = 0
    _said: int = 0
    _unseen: deque[Word] = field(default_factory=deque)
    _unseen_bytes: int = 0

    def check(self, batch: Batch, chunks: Sequence[bytes]) -> Tree:
        """The tree over these chunks, if they are what was signed and are next; SignatureRefused otherwise."""
        body = batch.body
        tree = Tree([leaf_hash(chunk) for chunk in chunks])
        if body.chunks != len(chunks) or tree.root != body.root:
            raise SignatureRefused("chunks of calls are not the ones that were signed")
        if self.closed or body.start != self.tasks:
            raise SignatureRefused(f"a batch begins at task {body.start}, and task {self.tasks} is next")
        if (
            self._bytes + sum(map(len, chunks)) > CHUNKS_BYTES_MAX
            or self._chunks + len(chunks) > CHUNKS_WAITING_MAX
        ):
            raise SignatureRefused(
                f"more than {CHUNKS_WAITING_MAX} chunks or {CHUNKS_BYTES_MAX} bytes of one pool wait",
                fix="Give it calls as their results come: imap and imap_unordered do.",
            )
        return tree

    def add(self, batch: Batch, chunks: Sequence[bytes], tree: Tree) -> None:
        """Keep a batch that was checked."""
        size = sum(map(len, chunks))
        self._batches[self.tasks] = Kept(batch, chunks, tree, len(chunks), size)
        self._starts.append(self.tasks)
        self.tasks += len(chunks)
        self._bytes += size
        self._chunks += len(chunks)

    def parcels(self, start: int, stop: int) -> Iterator[Parcel]:
        """The chunks of these tasks, of which none has ended, batch by batch."""
        while start < stop:
            kept = self._of(start)
            end = min(stop, kept.batch.stop)
            first, last = start - kept.start, end - kept.start
            proof = pack_parts(kept.tree.prove(first, last))
            yield Parcel(start, kept.chunks[first:last], proof, kept.batch.envelope)
            start = end

    def ended(self, start: int, stop: int) -> list[Batch]:
        """These tasks have ended; the batches that are over with them."""
        over: list[Batch] = []
        while start < stop:
            kept = self._of(start)
            end = min(stop, kept.batch.stop)
            kept.left -= end - start
            self._chunks -= end - start
            if not kept.left:
                del self._batches[kept.start]
                self._bytes -= kept.bytes
                over.append(kept.batch)
            start = end
        if len(self._starts) > 2 * len(self._batches) + 64:
            self._starts = list(self._batches)
        return over

    def done(self, build: Callable[[int], CallsDone | CallsLost], payload: Sequence[bytes]) -> Word:
        """What to tell the client next, kept until it has seen it."""
        self._said += 1
        word = Word(build(self._said), payload)
        self._unseen.append(word)
        self._unseen_bytes += word.bytes
        return word

    def seen(self, number: int) -> list[int]:
        """The client has all up to this number; those of them that were kept for it until now."""
        let_go: list[int] = []
        while self._unseen and self._unseen[0].message.number <= number:
            word = self._unseen.popleft()
            self._unseen_bytes -= word.bytes
            let_go.append(word.message.number)
        return let_go

    def unseen(self) -> list[Word]:
        """What it may have missed, in order."""
        return list(self._unseen)

    @property
    def full(self) -> bool:
        """Whether its client is so far behind that no more can be kept for it."""
        return self._unseen_bytes > UNSEEN_BYTES_MAX

    def batches(self) -> list[Batch]:
        """Those of which something waits or runs."""
        return [kept.batch for kept in self._batches.values()]

    def _of(self, index: int) -> Kept:
        """The batch of a task that has not ended."""
        return self._batches[self._starts[bisect_right(self._starts, index) - 1]]
