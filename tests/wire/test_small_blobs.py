"""Small blobs ride along with a message: under the digest they have, not the one they are said to have."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discogrid.blobs import digest_of
from discogrid.errors import WireError
from discogrid.transfer import pack_small, unpack_small
from discogrid.transfer.small import RIDERS_BYTES_MAX, RIDERS_MAX, SMALL_BYTES
from discogrid.types import FileRef, JobId
from discogrid.wire import pack_parts
from discogrid_agent.small_blobs import KEPT_BYTES_MAX, SmallBlobs


def file(content: bytes, name: str = "x") -> FileRef:
    return FileRef(name, digest_of(content), len(content))


@given(st.lists(st.binary(max_size=50), max_size=10), st.sets(st.binary(max_size=50), max_size=10))
def test_what_is_wanted_is_taken_under_its_own_digest(sent: list[bytes], wanted: set[bytes]) -> None:
    found = unpack_small(pack_parts(sent), {digest_of(content): None for content in wanted})
    assert found == {digest_of(content): content for content in sent if content in wanted}


@given(st.binary(max_size=100))
def test_riders_of_random_bytes_are_none_or_a_wire_error(raw: bytes) -> None:
    try:
        assert unpack_small(raw, {}) == {}
    except WireError:
        assert raw


def test_only_small_ones_ride_and_each_once() -> None:
    small, large = b"s" * SMALL_BYTES, b"l" * (SMALL_BYTES + 1)
    contents = {digest_of(content): content for content in (small, large)}
    files = [file(small), file(large), file(small, "again")]
    frame = pack_small(files, lambda one: contents[one.digest])
    assert unpack_small(frame, contents) == {digest_of(small): small}


def test_a_rider_that_is_not_here_stays_behind() -> None:
    assert pack_small([file(b"gone")], lambda _: None) == b""


def test_riders_are_bounded_in_number_and_together() -> None:
    contents = [
        number.to_bytes(2) * (SMALL_BYTES // 2) for number in range(RIDERS_BYTES_MAX // SMALL_BYTES + 5)
    ]
    by = {digest_of(content): content for content in contents}
    frame = pack_small([file(content) for content in contents], lambda one: by[one.digest])
    assert len(unpack_small(frame, by)) == RIDERS_BYTES_MAX // SMALL_BYTES
    with pytest.raises(WireError):
        unpack_small(pack_parts([b""] * (RIDERS_MAX + 1)), {})
    with pytest.raises(WireError):
        unpack_small(pack_parts([b"x" * (SMALL_BYTES + 1)]), {})


def test_an_agent_keeps_so_much_in_memory_and_fetches_the_rest() -> None:
    kept = SmallBlobs()
    count = KEPT_BYTES_MAX // SMALL_BYTES
    for number in range(count + 10):
        content = number.to_bytes(4) * (SMALL_BYTES // 4)
        kept.keep(JobId("k3f9"), pack_parts([content]), [file(content)])
    first, last = (number.to_bytes(4) * (SMALL_BYTES // 4) for number in (0, count + 9))
    assert kept.get(digest_of(first)) == first
    assert kept.get(digest_of(last)) is None
    kept.forget(JobId("k3f9"))
    assert kept.get(digest_of(first)) is None
    kept.keep(JobId("zzzz"), pack_parts([last]), [file(last)])
    assert kept.get(digest_of(last)) == last


def test_a_blob_two_jobs_came_with_stays_until_both_are_over() -> None:
    kept = SmallBlobs()
    for job in ("aaaa", "bbbb"):
        kept.keep(JobId(job), pack_parts([b"shared"]), [file(b"shared")])
    kept.forget(JobId("aaaa"))
    assert kept.get(digest_of(b"shared")) == b"shared"
    kept.forget(JobId("bbbb"))
    assert kept.get(digest_of(b"shared")) is None
