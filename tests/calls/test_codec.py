"""What calls return comes back equal, of the same type, and runs no code where it is read."""

import contextlib
import datetime as dt
import enum
import fractions
import math
import pathlib
import pickle
import sys
import uuid
import zoneinfo
from array import array
from collections import Counter, OrderedDict, deque, namedtuple
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discogrid.calls.codec import PICKLED, PLAIN, TAGGED, dumps, loads
from discogrid.errors import UntrustedResult, WireError

HERE = (__name__,)


class Colour(enum.Enum):
    RED = 1
    BLUE = "b"


class Point(NamedTuple):
    x: float
    y: float


Old = namedtuple("Old", "a b")  # noqa: PYI024 (programs have them)


@dataclass
class Face:
    box: tuple[int, int]
    name: str = ""
    found: list[Any] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Frozen:
    at: int
    more: "Frozen | None" = None


@dataclass
class Loud:
    """Says so when it is made as usual, which a reader must not do."""

    value: int

    def __post_init__(self) -> None:
        MADE.append(self.value)


MADE: list[int] = []

PLAIN_VALUES = [
    None, True, False, 0, -1, 2**63, -(2**63), 2**64 - 1, 2**64, -(2**63) - 1, 10**400, -(10**400),
    0.0, -0.0, 1e-308, math.inf, -math.inf, "", "ä\U0001f576", "\udcff", b"", b"\x00\xff", bytearray(b"ab"),
    [], [1, [2, [3]]], (), (1, (2,)), {}, {"a": 1, 2: "b", (1, "x"): None, frozenset({1}): 3.5},
    set(), {1, "a", (2, 3)}, frozenset(), frozenset({frozenset({1})}),
    complex(1, -2), complex(0.0, math.inf),
    dt.date(1, 1, 1), dt.datetime(2026, 11, 27, 1, 2, 3, 4),  # noqa: DTZ001
    dt.datetime(2026, 10, 25, 2, 30, fold=1),  # noqa: DTZ001
    dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.datetime(2026, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=-3), "here")),
    dt.datetime(2026, 7, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")), dt.time(1, 2, 3, 4, dt.timezone(dt.timedelta(1, -1))),
    dt.timedelta(-5, 3, 1), Decimal("1.10"), Decimal("-Infinity"), fractions.Fraction(-3, 7), uuid.UUID(int=7),
    range(3, 10, 2), slice(None, 5, -1), ..., NotImplemented,
    deque([1, 2], maxlen=2), OrderedDict([("b", 1), ("a", 2)]), Counter("hello"), array("d", [1.5, 2.5]), array("u", "ab"),
    pathlib.Path("a/b"), pathlib.PurePosixPath("/x"), pathlib.PureWindowsPath("c:\\x"),
    Colour.RED, Colour.BLUE, Point(1.0, 2.0), Old([1], {2}), Face((1, 2), "a", [Face((3, 4))]), Frozen(1, Frozen(2)),
]  # fmt: skip


@pytest.mark.parametrize(
    "value", PLAIN_VALUES, ids=[f"{at} {type(value).__name__}" for at, value in enumerate(PLAIN_VALUES)]
)
def test_a_value_comes_back_equal_and_of_the_same_type_without_pickle(value: Any) -> None:
    raw = dumps(value)
    assert raw[:1] in (PLAIN, TAGGED)
    back = loads(raw, trusted=False, modules=HERE)
    assert type(back) is type(value)
    assert back == value
    assert repr(back) == repr(value)  # 0.0 and -0.0, the order of keys, the name of a time zone
    if isinstance(value, dt.datetime):
        assert back.fold == value.fold


def test_a_number_that_is_none_comes_back_as_such() -> None:
    assert math.isnan(loads(dumps(math.nan), trusted=False))
    assert math.isnan(loads(dumps(Decimal("nan")), trusted=False))


ARRAYS = [
    np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(10)[::2],
    np.array(5),
    np.zeros((0, 3), dtype=np.float32),
    np.array([True, False]),
    np.array(["a", "bc"]),
    np.array([b"a", b"bc"]),
    np.array([1 + 2j]),
    np.array(["2026-11-27", "NaT"], dtype="datetime64[s]"),
    np.array([3], dtype="timedelta64[ms]"),
    np.array([(1, 2.5)], dtype=[("a", "<i4"), ("b", ">f8")]),
    np.array([1, 2], dtype=">i2"),
]


@pytest.mark.parametrize("value", ARRAYS, ids=lambda value: f"{value.dtype} {value.shape}")
def test_an_array_comes_back_as_it_lay_and_can_be_written_to(value: "np.ndarray[Any, Any]") -> None:
    raw = dumps({"frames": [value]})
    assert raw[:1] == TAGGED
    back = loads(raw, trusted=False)["frames"][0]
    assert (type(back), back.dtype, back.shape) == (np.ndarray, value.dtype, value.shape)
    np.testing.assert_array_equal(back, value)
    assert back.flags.writeable
    assert back.flags.f_contiguous == value.flags.f_contiguous or not value.flags.c_contiguous


@pytest.mark.parametrize(
    "value",
    [
        np.float32(1.5),
        np.int64(-3),
        np.bool_(True),
        np.str_("ä"),
        np.datetime64("2026-11-27"),
        np.complex64(1j),
    ],
)
def test_a_number_of_numpy_comes_back_as_one(value: Any) -> None:
    raw = dumps([value])
    assert raw[:1] == TAGGED
    [back] = loads(raw, trusted=False)
    assert (type(back), back) == (type(value), value)


def cycle() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


class Strange:
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Strange)

    def __hash__(self) -> int:
        return 0


def more_than_its_class() -> Face:
    face = Face((1, 2))
    face.extra = 1  # type: ignore[attr-defined]
    return face


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    "value",
    [
        Strange(),
        [1, {2: Strange()}],
        Text("a"),
        np.array([Strange()], dtype=object),
        np.array([(1, (2,))], dtype=[("a", "i4"), ("b", [("c", "i4")])]),
        more_than_its_class(),
        enum.IntFlag("Local", "A B").A,  # type: ignore[attr-defined]
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_plain_data_cannot_say_is_pickled_and_opened_only_for_the_trusted(value: Any) -> None:
    raw = dumps(value)
    assert raw[:1] == PICKLED
    with pytest.raises(UntrustedResult, match="not trusted"):
        loads(raw, trusted=False, modules=HERE)
    back = loads(raw, trusted=True)
    assert repr(type(back)) == repr(type(value))


def test_a_cycle_and_what_is_very_deep_are_pickled_too() -> None:
    [inner] = loads(dumps(cycle()), trusted=True)
    assert inner[0] is inner
    deep: Any = ()
    for _ in range(600):
        deep = (deep,)
    raw = dumps(deep)
    back = loads(raw, trusted=True)
    assert back == deep


def test_pickle_of_an_attacker_is_not_opened() -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return MADE.append, (666,)

    raw = PICKLED + pickle.dumps(Bomb())
    with pytest.raises(UntrustedResult):
        loads(raw, trusted=False, modules=HERE)
    assert 666 not in MADE


def test_nothing_of_a_class_runs_when_its_instance_is_read() -> None:
    value = Loud(3)
    MADE.clear()
    assert loads(dumps(value), trusted=False, modules=HERE) == value
    assert MADE == []


def tagged(code: int, *said: object) -> bytes:
    return TAGGED + bytes(msgpack.packb([msgpack.ExtType(code, b""), *said]))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"x",
        PLAIN,
        PLAIN + b"\xc1",
        dumps({"a": 1})[:-1],
        dumps([1]) + b"\x00",
        PLAIN + tagged(1)[1:],
        TAGGED + bytes(msgpack.packb([1, msgpack.ExtType(1, b"")])),
        TAGGED + bytes(msgpack.packb(msgpack.ExtType(1, b""))),
        TAGGED + bytes(msgpack.packb({msgpack.ExtType(1, b""): 1})),
        TAGGED + bytes(msgpack.packb([msgpack.ExtType(1, b"more")])),
        TAGGED + bytes(msgpack.packb({"a": {(1, 2): 3}})),  # a list as a key
        tagged(99, 1),
        tagged(2, "os", "environ", "PATH"),
        tagged(2, "subprocess", "Popen", "x"),
        tagged(2, __name__, "Colour", "GREEN"),
        tagged(2, __name__, "Face", "x"),
        tagged(3, "subprocess", "Popen"),
        tagged(3, __name__, "Point", 1.0),
        tagged(3, __name__, "nothing.at.all", 1.0),
        tagged(4, __name__, "Face", {"box": 1, "other": 2}),
        tagged(4, __name__, "Strange", {}),
        tagged(4, __name__, "Face", {"__class__": 1}),
        tagged(4, __name__, "Face", [1]),
        tagged(4, "discogrid.errors", "WireError", {}),
        tagged(5, "Path", 3),
        tagged(5, "Popen", "x"),
        tagged(6, "|O", [1], False, b"12345678"),
        tagged(6, [["a", "|O"]], [1], False, b"12345678"),
        tagged(6, "<f8", [2], False, b"12345678"),
        tagged(6, "<f8", [-1], False, b""),
        tagged(6, "<f8", [1 << 40, 1 << 40], False, b""),
        tagged(6, "<f8", [0] * 65, False, b""),
        tagged(7, "|O", b"12345678"),
        tagged(7, "<f8", b"1"),
        tagged(8, [1]),
        tagged(10, "1"),
        tagged(12, 1),
        tagged(12, 2026, 1, 1, 0, 0, 0, 0, "../../etc/passwd", 0),
        tagged(12, 2026, 1, 1, 0, 0, 0, 0, 5, 0),
        tagged(16, "not a number"),
        tagged(17, 1, 0),
        tagged(23, 1),
        tagged(25, "q", b"1"),
        tagged(25, "Z", b"1"),
    ],
    ids=lambda raw: repr(raw[:60]),
)
def test_what_is_damaged_or_forged_is_refused_as_such(raw: bytes) -> None:
    with pytest.raises(WireError):
        loads(raw, trusted=False, modules=HERE)


@pytest.mark.parametrize("opening", [b"\x91", b"\x92\xc7\x00\x01", b"\x81"])
def test_what_has_no_end_of_depth_is_refused_and_not_followed_down_the_stack(opening: bytes) -> None:
    with pytest.raises(WireError):
        loads(TAGGED + opening * 1_000_000 + b"\xc0", trusted=False)


def test_a_class_of_no_module_that_was_named_is_refused() -> None:
    raw = dumps(Point(1.0, 2.0))
    with pytest.raises(WireError, match=r"Point, which is not of the caller's own modules"):
        loads(raw, trusted=False)
    assert "numpy" in sys.modules


keys = st.one_of(
    st.integers(), st.text(max_size=5), st.tuples(st.integers(), st.text(max_size=3)), st.booleans()
)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.complex_numbers(allow_nan=False),
    st.text(max_size=8),
    st.binary(max_size=8),
    st.datetimes(timezones=st.none() | st.timezones()),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.fractions(),
    st.uuids(),
    st.frozensets(keys, max_size=3),
    st.sampled_from(Colour),
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(keys, inner, max_size=3),
        st.builds(
            Face, st.tuples(st.integers(), st.integers()), st.text(max_size=3), st.lists(inner, max_size=2)
        ),
        st.builds(Old, inner, inner),
        st.lists(inner, max_size=3).map(deque),
    ),
    max_leaves=12,
)


@given(values)
def test_whatever_is_built_of_these_comes_back(value: Any) -> None:
    back = loads(dumps(value), trusted=False, modules=HERE)
    assert back == value
    assert kinds(back) == kinds(value)


def kinds(value: Any) -> Any:
    """The types in it, all the way down."""
    match value:
        case frozenset():
            return frozenset, frozenset(map(kinds, value))
        case dict():
            return dict, [(kinds(key), kinds(one)) for key, one in value.items()]
        case list() | tuple() | deque():
            return type(value), tuple(map(kinds, value))
        case Face():
            return Face, kinds(value.box), kinds(value.found)
        case _:
            return type(value)


@given(values, st.data())
@settings(max_examples=300)
def test_one_byte_that_was_changed_is_refused_or_another_value_and_nothing_else_happens(
    value: Any, data: Any
) -> None:
    raw = bytearray(dumps(value))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] = data.draw(st.integers(0, 255))
    with contextlib.suppress(WireError, UntrustedResult):
        loads(bytes(raw), trusted=False, modules=HERE)
