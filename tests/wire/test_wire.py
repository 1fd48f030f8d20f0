"""The codec: whatever bytes come, a message or a WireError, and never much memory or time."""

import contextlib
import dataclasses
import time
import tracemalloc
import types
import typing
from collections.abc import Callable
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discogrid import messages
from discogrid.errors import WireError
from discogrid.messages import AnyMessage, Goodbye, Heartbeat, Hello, Message, Query, SubmitJob
from discogrid.types import JobId, Role, Run
from discogrid.wire import (
    FRAMES_MAX,
    HEADER_BYTES_MAX,
    ITEMS_MAX,
    TEXT_BYTES_MAX,
    check_frames,
    decode,
    encode,
    pack_parts,
    unpack,
    unpack_parts,
)

MESSAGES: tuple[type[Message], ...] = typing.get_args(AnyMessage)
MSGPACK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


def hello(**other: Any) -> Hello:
    known = Hello(
        protocol=1,
        software="0.1",
        role=Role.AGENT,
        session="s",
        name="attic",
        platform="linux",
        python="3.11",
        clock=0.0,
    )
    return msgspec.structs.replace(known, **other)


def value_of(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a field's type, small enough for a header."""
    kind = kind.__supertype__ if isinstance(kind, typing.NewType) else kind
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*map(value_of, arguments))
    if origin is tuple:
        return st.lists(value_of(arguments[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(value_of(arguments[0]), value_of(arguments[1]), max_size=3)
    if kind is float:
        return st.floats(allow_nan=False)
    if kind is int:
        return st.integers(-(2**63), 2**64 - 1)
    if kind is str:
        return st.text(max_size=40)
    if dataclasses.is_dataclass(kind) or (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        hints = typing.get_type_hints(kind)
        build = typing.cast("Callable[..., Any]", kind)
        return st.builds(build, **{name: value_of(hint) for name, hint in hints.items()})
    return st.from_type(kind)


# Every message there is.


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
def test_every_message_comes_back_as_it_went(kind: type[Message]) -> None:
    @settings(max_examples=25, deadline=None)
    @given(value_of(kind))
    def comes_back(message: Message) -> None:
        assert decode(encode(message)) == message

    comes_back()


def test_every_message_of_the_module_may_travel() -> None:
    defined = {
        kind
        for kind in vars(messages).values()
        if isinstance(kind, type) and issubclass(kind, Message) and kind is not Message
    }
    assert defined == set(MESSAGES)


@given(st.binary(max_size=300))
def test_random_bytes_are_a_message_or_a_wire_error(raw: bytes) -> None:
    with contextlib.suppress(WireError):
        assert isinstance(decode(raw), Message)


@given(MSGPACK)
def test_random_values_are_a_message_or_a_wire_error(value: Any) -> None:
    with contextlib.suppress(WireError):
        assert isinstance(decode(msgpack.packb(value)), Message)


@given(st.data())
@settings(max_examples=300)
def test_a_damaged_message_is_a_message_or_a_wire_error(data: st.DataObject) -> None:
    raw = bytearray(encode(hello(holds=(Run(JobId("k3f9"), 0, 9, 1, 7),), capabilities=("dlib",))))
    for at in data.draw(st.lists(st.integers(0, len(raw) - 1), min_size=1, max_size=4)):
        raw[at] = data.draw(st.integers(0, 255))
    with contextlib.suppress(WireError):
        assert isinstance(decode(bytes(raw)), Message)


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_packed_parts_come_back_as_they_went(parts: list[bytes]) -> None:
    assert unpack_parts(pack_parts(parts), part_bytes_max=50) == parts


@pytest.mark.parametrize("size", [0, 1, 255, 256, 65_535, 65_536])
def test_a_part_of_any_size_comes_back_as_it_went(size: int) -> None:
    assert unpack_parts(pack_parts([b"x" * size, b"y"]), part_bytes_max=1 << 20) == [b"x" * size, b"y"]


@given(st.binary(max_size=200))
def test_a_random_payload_is_parts_or_a_wire_error(raw: bytes) -> None:
    with contextlib.suppress(WireError):
        assert all(isinstance(part, bytes) for part in unpack_parts(raw, part_bytes_max=100))


# Bombs.


@pytest.mark.parametrize(
    "bomb",
    [
        b"\xdd\x00\x0f\xff\xff" + b"\x80" * 60_000,  # a million empty maps, announced
        b"\xdf\xff\xff\xff\xff",  # a map of four thousand million
        b"\xc6\xff\xff\xff\xff",  # four gigabytes of bytes
        b"\xdb\xff\xff\xff\xff",  # and of text
        b"\xc9\xff\xff\xff\xff\x05",  # and of an extension
        b"\x91" * 60_000,  # depth
        b"\x81\xa1x" * 20_000,
        (b"\xdc\x0f\xff" + b"\x90" * 4095) * 15,  # wide at every level
    ],
    ids=["maps", "map", "bytes", "text", "extension", "depth", "deep-maps", "wide"],
)
def test_a_bomb_is_refused_before_it_costs_anything(bomb: bytes) -> None:
    tracemalloc.start()
    began = time.perf_counter()
    with pytest.raises(WireError):
        decode(bomb)
    spent, (_, peak) = time.perf_counter() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert spent < 0.25
    assert peak < 4 << 20


@pytest.mark.parametrize(
    "bomb",
    [b"\x80" * 1_000_000, b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\x91" * 100_000],
    ids=["maps", "array", "bytes", "depth"],
)
def test_a_payload_bomb_is_refused_before_it_costs_anything(bomb: bytes) -> None:
    began = time.perf_counter()
    with pytest.raises(WireError):
        unpack_parts(bomb, part_bytes_max=1024)
    assert time.perf_counter() - began < 0.25


# Each bound, and its twin just below.


def test_a_header_of_the_greatest_size_is_read_and_a_byte_more_is_not() -> None:
    # Four texts, because one alone would be over its own bound.
    texts = ["x" * 16_000] * 4
    spare = HEADER_BYTES_MAX - len(msgpack.packb([*texts, ""]))
    exact = msgpack.packb([*texts, "y" * (spare - 2)])
    assert len(exact) == HEADER_BYTES_MAX
    assert len(typing.cast("list[str]", unpack(exact, limit=HEADER_BYTES_MAX))) == 5
    with pytest.raises(WireError, match="at most"):
        unpack(exact + b"\x00", limit=HEADER_BYTES_MAX)


def test_a_message_that_every_receiver_would_refuse_is_not_sent() -> None:
    encode(hello(capabilities=("x" * 1000,) * 60))
    with pytest.raises(WireError, match="Hello"):
        encode(hello(capabilities=("x" * 1000,) * 70))


@pytest.mark.parametrize("name", ["\ud800", "x" * 3 + "\udcff"])
def test_a_text_that_is_not_unicode_is_not_sent(name: str) -> None:
    with pytest.raises(WireError):
        encode(hello(name=name))


def test_a_number_no_receiver_could_read_is_not_sent() -> None:
    with pytest.raises(WireError):
        encode(Query(request=2**64, what="jobs"))


def test_items_are_bounded() -> None:
    assert len(typing.cast("list[int]", unpack(msgpack.packb([0] * ITEMS_MAX), limit=1 << 20))) == ITEMS_MAX
    with pytest.raises(WireError):
        unpack(msgpack.packb([0] * (ITEMS_MAX + 1)), limit=1 << 20)
    with pytest.raises(WireError):
        unpack(msgpack.packb({str(key): 0 for key in range(ITEMS_MAX + 1)}), limit=1 << 20)


@pytest.mark.parametrize("unit", ["x", b"x"], ids=["text", "bytes"])
def test_texts_and_bytes_are_bounded(unit: Any) -> None:
    assert unpack(msgpack.packb(unit * TEXT_BYTES_MAX), limit=1 << 20) == unit * TEXT_BYTES_MAX
    with pytest.raises(WireError):
        unpack(msgpack.packb(unit * (TEXT_BYTES_MAX + 1)), limit=1 << 20)


def test_extensions_are_refused() -> None:
    for extension in (msgpack.ExtType(5, b""), msgpack.ExtType(5, b"x"), msgpack.Timestamp(1)):
        with pytest.raises(WireError):
            unpack(msgpack.packb(extension), limit=100)


def test_a_key_that_is_no_text_is_refused() -> None:
    with pytest.raises(WireError):
        unpack(msgpack.packb({1: 2}), limit=100)


def test_parts_are_bounded_in_size() -> None:
    assert unpack_parts(pack_parts([b"x" * 100]), part_bytes_max=100) == [b"x" * 100]
    with pytest.raises(WireError):
        unpack_parts(pack_parts([b"x" * 101]), part_bytes_max=100)


def test_parts_are_bounded_in_number() -> None:
    assert len(unpack_parts(pack_parts([b""] * 5), part_bytes_max=1, parts_max=5)) == 5
    with pytest.raises(WireError):
        unpack_parts(pack_parts([b""] * 6), part_bytes_max=1, parts_max=5)


@pytest.mark.parametrize("other", [1, "text", [], {}, None, 1.5, True])
def test_a_payload_of_anything_but_bytes_is_refused(other: Any) -> None:
    with pytest.raises(WireError):
        unpack_parts(pack_parts([b"x"]) + msgpack.packb(other), part_bytes_max=10)


def test_a_payload_that_ends_in_the_middle_is_refused() -> None:
    packed = pack_parts([b"x" * 10, b"y" * 10])
    assert len(unpack_parts(packed[:12], part_bytes_max=10)) == 1
    for cut in (1, 5, 11, 13, 20, 23):
        with pytest.raises(WireError):
            unpack_parts(packed[:cut], part_bytes_max=10)


def test_frames_are_bounded_in_number() -> None:
    check_frames([b""] * FRAMES_MAX)
    for count in (0, FRAMES_MAX + 1):
        with pytest.raises(WireError):
            check_frames([b""] * count)


# Versions.


def test_a_field_that_only_the_next_version_knows_is_passed_over() -> None:
    plain = msgpack.unpackb(encode(hello()))
    assert decode(msgpack.packb({**plain, "mood": "fine", "later": {"x": [1]}})) == hello()


def test_a_field_that_the_version_before_did_not_have_gets_its_default() -> None:
    plain = msgpack.unpackb(encode(hello(slots=4)))
    for field in (
        "slots",
        "gpus",
        "capabilities",
        "holds",
        "sandbox",
        "network",
        "no_network",
        "memory_bytes",
    ):
        del plain[field]
    assert decode(msgpack.packb(plain)) == hello()


def test_a_message_that_only_the_next_version_knows_is_refused() -> None:
    with pytest.raises(WireError, match="protocol"):
        decode(msgpack.packb({"type": "steal-tasks"}))


def test_a_message_without_what_it_must_say_is_refused() -> None:
    plain = msgpack.unpackb(encode(hello()))
    for field in ("type", "protocol", "role", "session", "clock"):
        with pytest.raises(WireError):
            decode(msgpack.packb({key: value for key, value in plain.items() if key != field}))


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("protocol", "1"),
        ("protocol", 1.5),
        ("protocol", None),
        ("role", "emperor"),
        ("name", 7),
        ("name", b"attic"),
        ("clock", "now"),
        ("network", 1),
        ("capabilities", "dlib"),
        ("capabilities", [1]),
        ("holds", [["k3f9", 0, 1, 1, 7]]),
        ("holds", [{"job": "k3f9"}]),
        ("holds", {}),
    ],
)
def test_a_field_of_another_type_is_refused(field: str, wrong: object) -> None:
    plain = msgpack.unpackb(encode(hello()))
    with pytest.raises(WireError):
        decode(msgpack.packb({**plain, field: wrong}))


def test_two_messages_in_one_header_are_refused() -> None:
    with pytest.raises(WireError):
        decode(encode(Goodbye()) + encode(Heartbeat()))


def test_an_empty_header_is_refused() -> None:
    with pytest.raises(WireError):
        decode(b"")


def test_the_smallest_question_is_read() -> None:
    assert decode(encode(SubmitJob(request=1))) == SubmitJob(request=1)
