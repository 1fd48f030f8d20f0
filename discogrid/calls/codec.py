"""Values of Python calls as bytes that run no code where they are read: msgpack with extension types, arrays as they lie.

What these types cannot say (an instance of some library's class, a cycle) becomes pickle, marked as such: `loads` opens
that only for who is trusted with it. Equal values come back equal and of the same type, but for a bytearray or memoryview
inside of another value, which comes back as bytes; that two places held one and the same list does not come back.
"""

import datetime as dt
import decimal
import enum
import fractions
import math
import pathlib
import pickle
import sys
import uuid
import zoneinfo
from array import array
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

import msgpack

from discogrid.calls import parts
from discogrid.calls.parts import Aside, Body, Content, Packed
from discogrid.errors import UntrustedResult, WireError

if TYPE_CHECKING:
    import numpy as np

PLAIN, TAGGED, PICKLED = b"m", b"x", b"p"
"""The first byte: msgpack alone, msgpack with tags in it, pickle."""
QUICK_BYTES_MAX = 4096  # which are read in a few microseconds
LOOSE_ITEMS_MAX = 64  # of a list, tuple or dict in which large bytes are looked for
ARRAY_DIMENSIONS_MAX = 64  # as numpy has it
ARRAY_KINDS = "biufcSUmMV"  # what is a row of numbers or characters; objects are not


class Unplain(Exception):
    """The value has a part that only pickle can say."""


def dumps(value: object) -> bytes:
    """The value as bytes; pickle's own errors where not even pickle can say it."""
    writer = _Writer()
    try:
        said = writer.write(value) if type(value) is bytearray else value
        packed = msgpack.packb(said, default=writer.write, strict_types=True, unicode_errors="surrogatepass")
    except (Unplain, ValueError, OverflowError, RecursionError, TypeError):
        import cloudpickle

        return PICKLED + bytes(cloudpickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL))
    return (TAGGED if writer.tags else PLAIN) + bytes(packed)


def pack(value: object) -> Packed:
    """The same, with what is large in it beside it. What is written to afterwards is written to there, too."""
    writer = _Writer(loose=True)
    try:
        said = writer.write(value) if type(value) is bytearray else writer.lift(value)
        packed = msgpack.packb(said, default=writer.write, strict_types=True, unicode_errors="surrogatepass")
    except (Unplain, ValueError, OverflowError, RecursionError, TypeError):
        import cloudpickle

        aside = Aside()
        packed = cloudpickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL, buffer_callback=aside.take)
        return aside.packed(PICKLED + bytes(packed))
    head = (TAGGED if writer.tags else PLAIN) + bytes(packed)
    return parts.Parts(head, writer.bodies) if writer.bodies else head


def loads(content: bytes | Content, *, trusted: bool, modules: Collection[str] = ("__main__",)) -> Any:
    """The value in what `dumps` or `pack` made, of whom we do not know.

    Named tuples, data classes and enumerations are looked up in these `modules`, which are imported already, and
    nowhere else; nothing of theirs runs. UntrustedResult when there is pickle in it and its sender is not `trusted`;
    WireError when it is damaged.
    """
    raw, bodies = parts.opened(content)
    kind = raw[:1]
    if kind == PICKLED:
        if not trusted:
            raise UntrustedResult(
                "a result came as pickle, which can run code here, from an agent that is not trusted with that",
                why="It holds an object that plain data cannot say, such as an instance of a library's class.",
                fix="Return plain data, arrays or data classes; or have the grid's owner trust the agent.",
            )
        return pickle.loads(memoryview(raw)[1:], buffers=bodies)  # noqa: S301 (from who is trusted to run code here)
    if kind not in (PLAIN, TAGGED):
        raise WireError("a result is neither plain data nor pickle")
    reader = _Reader(frozenset(modules), bodies)
    try:
        value = msgpack.unpackb(
            memoryview(raw)[1:],
            strict_map_key=False,
            unicode_errors="surrogatepass",
            ext_hook=reader.tag if kind == TAGGED else _no_tag,
            list_hook=reader.read if kind == TAGGED else None,
        )
    except WireError:
        raise
    except Exception as error:  # noqa: BLE001 (whatever a constructor has against what a peer has sent)
        raise WireError(f"a result cannot be read: {error}") from None
    if reader.open_tags:
        raise WireError("a result has a tag where no value begins")
    if reader.bodies:
        raise WireError("a result has large values of which it says nothing")
    return value


def is_quick(raw: bytes) -> bool:
    """Whether to read it takes no time, and makes numbers, texts, lists and maps alone."""
    return raw[:1] == PLAIN and len(raw) <= QUICK_BYTES_MAX


# -- writing: what msgpack does not know becomes a list that begins with a tag, which no other list does


class _Writer:
    """Says what msgpack has no word for."""

    def __init__(self, *, loose: bool = False) -> None:
        self.tags = 0
        self.bodies: list[tuple[parts.Buffer, bool]] = []
        self._loose = loose

    def lift(self, value: Any) -> Any:
        """The same with a mark where it is, or holds, large bytes: msgpack would copy them."""
        if not self._loose:
            return value
        kind = type(value)
        if kind is bytes:
            return _Large(value) if len(value) >= parts.BODY_BYTES_MIN else value
        if kind in (list, tuple) and len(value) <= LOOSE_ITEMS_MAX:
            return kind(map(self._lift_one, value))
        if kind is dict and len(value) <= LOOSE_ITEMS_MAX:
            return {name: self._lift_one(one) for name, one in value.items()}
        return value

    @staticmethod
    def _lift_one(value: Any) -> Any:
        return _Large(value) if type(value) is bytes and len(value) >= parts.BODY_BYTES_MIN else value

    def write(self, value: Any) -> object:
        self.tags += 1
        kind = type(value)
        if kind is _Large:
            return self._put_aside(value)
        if (known := _WRITERS.get(kind)) is not None:
            code, write = known
            return [_tag(code), *write(value)]
        if isinstance(value, enum.Enum):
            return [_tag(_ENUM), *_name_of(kind), value.name]
        if isinstance(value, tuple) and _is_named_tuple(kind):
            return [_tag(_NAMED_TUPLE), *_name_of(kind), *value]
        if is_dataclass(value):
            return [_tag(_DATA_CLASS), *_name_of(kind), _fields_of(value)]
        if isinstance(value, pathlib.PurePath):
            return [_tag(_PATH), kind.__name__, str(value)]
        if "numpy" in sys.modules:
            return _numpy_parts(value, loose=self._loose)
        raise Unplain

    def _put_aside(self, large: "_Large") -> object:
        if len(self.bodies) >= parts.BODIES_MAX:
            return bytes(large.content)
        self.bodies.append((large.content, large.writable))
        return [_tag(_BODY)]


@dataclass(frozen=True, slots=True, eq=False)
class _Large:
    """Bytes that go beside the value that they are of."""

    content: parts.Buffer
    writable: bool = False


def _tag(code: int) -> msgpack.ExtType:
    return msgpack.ExtType(code, b"")


def _name_of(kind: type) -> tuple[str, str]:
    """Where the class is found again; Unplain when it is not."""
    if "<locals>" in kind.__qualname__:
        raise Unplain
    # A worker has the caller's main program as values, not as a module: there the caller will know.
    if kind.__module__ != "__main__" and _class_at(kind.__module__, kind.__qualname__) is not kind:
        raise Unplain
    return kind.__module__, kind.__qualname__


def _class_at(module: str, qualified: str) -> Any:
    found: Any = sys.modules.get(module)
    for name in qualified.split("."):
        found = getattr(found, name, None)
    return found


def _is_named_tuple(kind: type) -> bool:
    names = getattr(kind, "_fields", None)
    return kind.__bases__ == (tuple,) and isinstance(names, tuple)


def _fields_of(value: Any) -> dict[str, object]:
    names = [field.name for field in fields(value)]
    if set(getattr(value, "__dict__", ())) - set(names):
        raise Unplain  # it has more than its class says
    return {name: getattr(value, name) for name in names if hasattr(value, name)}


def _numpy_parts(value: Any, *, loose: bool = False) -> list[object]:
    import numpy as np

    if type(value) is np.ndarray and value.dtype.kind in ARRAY_KINDS and not value.dtype.hasobject:
        fortran = value.flags.f_contiguous and not value.flags.c_contiguous
        head = [_tag(_ARRAY), _dtype_name(value.dtype), list(value.shape), fortran]
        if loose and value.nbytes >= parts.BODY_BYTES_MIN:
            row = np.ascontiguousarray(value.T if fortran else value).reshape(-1).view(np.uint8)
            return [*head, _Large(row.data, writable=True)]
        return [*head, value.tobytes("F" if fortran else "C")]
    if isinstance(value, np.generic) and value.dtype.kind in ARRAY_KINDS and not value.dtype.hasobject:
        return [_tag(_SCALAR), _dtype_name(value.dtype), value.tobytes()]
    raise Unplain


def _dtype_name(dtype: "np.dtype[Any]") -> object:
    if dtype.names is None and dtype.subdtype is None:
        return dtype.str
    if dtype.subdtype is not None or not dtype.isbuiltin == 0:
        raise Unplain
    try:
        described = [list(field) for field in dtype.descr]
    except ValueError:
        raise Unplain from None
    if any(len(field) != 2 or not isinstance(field[1], str) for field in described):
        raise Unplain  # fields within fields
    return described


def _int_bytes(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


def _zone_of(zone: dt.tzinfo | None) -> object:
    match zone:
        case None:
            return None
        case dt.timezone():
            offset = zone.utcoffset(None)
            return [offset.days, offset.seconds, offset.microseconds, zone.tzname(None)]
        case zoneinfo.ZoneInfo(key=str() as key):
            return key
        case _:
            raise Unplain


def _clock_of(value: dt.datetime | dt.time) -> list[object]:
    return [value.hour, value.minute, value.second, value.microsecond, _zone_of(value.tzinfo), value.fold]


# -- reading


@dataclass(frozen=True, slots=True)
class _Tag:
    code: int


def _no_tag(code: int, _: bytes) -> Any:
    raise WireError(f"a result that is plain data holds a tag of type {code}")


class _Reader:
    """Opens what a peer has written, from the inside out: no value of a peer is followed down our own stack."""

    def __init__(self, modules: frozenset[str], bodies: list[Body]) -> None:
        self.open_tags = 0  # that no list has begun with
        self.bodies = bodies[::-1]  # that are not in their places yet, the next one at the end
        self._modules = modules

    def tag(self, code: int, raw: bytes) -> _Tag:
        if code not in _READERS or raw:
            raise WireError(f"a result holds something of type {code}, which this version does not know")
        self.open_tags += 1
        return _Tag(code)

    def read(self, items: list[Any]) -> Any:
        if not items or type(items[0]) is not _Tag:
            return items
        self.open_tags -= 1
        return _READERS[items[0].code](self, items[1:])

    def own(self, module: str, qualified: str) -> Any:
        if module not in self._modules:
            raise WireError(
                f"a result holds a {module}.{qualified}, which is not of the caller's own modules"
            )
        return _class_at(module, qualified)


def _read_datetime(_: _Reader, said: Any) -> dt.datetime:
    year, month, day, hour, minute, second, micro, zone, fold = said
    return dt.datetime(year, month, day, hour, minute, second, micro, _zone(zone), fold=fold)


def _read_time(_: _Reader, said: Any) -> dt.time:
    hour, minute, second, micro, zone, fold = said
    return dt.time(hour, minute, second, micro, _zone(zone), fold=fold)


def _zone(said: Any) -> dt.tzinfo | None:
    match said:
        case None:
            return None
        case str():
            return zoneinfo.ZoneInfo(said)
        case [days, seconds, micros, name]:
            offset = dt.timedelta(days, seconds, micros)
            plain = dt.timezone(offset)
            if not offset:
                plain = dt.UTC
            return plain if plain.tzname(None) == name else dt.timezone(offset, name)
        case _:
            raise WireError("a time zone is neither a name nor an offset")


def _read_enum(reader: _Reader, said: Any) -> enum.Enum:
    module, qualified, name = said
    kind = reader.own(module, qualified)
    if not (isinstance(kind, type) and issubclass(kind, enum.Enum)):
        raise WireError(f"{module}.{qualified} is no enumeration here")
    return kind.__members__[name]


def _read_named_tuple(reader: _Reader, said: Any) -> Any:
    module, qualified, *values = said
    kind = reader.own(module, qualified)
    if not (isinstance(kind, type) and _is_named_tuple(kind) and len(kind._fields) == len(values)):  # type: ignore[attr-defined]
        raise WireError(f"{module}.{qualified} is no such named tuple here")
    return tuple.__new__(kind, values)


def _read_data_class(reader: _Reader, said: Any) -> Any:
    module, qualified, values = said
    kind = reader.own(module, qualified)
    if not (isinstance(kind, type) and is_dataclass(kind)):
        raise WireError(f"{module}.{qualified} is no data class here")
    if not values.keys() <= {field.name for field in fields(kind)}:
        raise WireError(f"{module}.{qualified} has other fields here")
    made = object.__new__(kind)
    for name, value in values.items():
        object.__setattr__(made, name, value)
    return made


def _read_path(_: _Reader, said: Any) -> pathlib.PurePath:
    name, text = said
    kinds = {kind.__name__: kind for kind in (pathlib.PurePosixPath, pathlib.PureWindowsPath)}
    here = pathlib.Path if name in ("PosixPath", "WindowsPath") else kinds[name]
    return here(text)


def _read_body(reader: _Reader, said: Any) -> Body:
    if said or not reader.bodies:
        raise WireError("a result names a large value that it does not have")
    return reader.bodies.pop()


def _read_array(_: _Reader, said: Any) -> Any:
    import numpy as np

    described, shape, fortran, raw = said
    dtype = _dtype(described)
    if len(shape) > ARRAY_DIMENSIONS_MAX or any(not isinstance(side, int) or side < 0 for side in shape):
        raise WireError("an array has no shape that numpy knows")
    if math.prod(shape) * dtype.itemsize != len(raw):
        raise WireError("an array has more or fewer bytes than its shape says")
    owned = raw if type(raw) is bytearray else bytearray(raw)
    flat = np.frombuffer(owned, dtype) if raw else np.empty(0, dtype)
    return flat.reshape(shape, order="F" if fortran else "C")


def _read_scalar(_: _Reader, said: Any) -> Any:
    import numpy as np

    described, raw = said
    dtype = _dtype(described)
    if len(raw) != dtype.itemsize:
        raise WireError("a number has more or fewer bytes than its type says")
    return np.frombuffer(raw, dtype)[0] if raw else np.zeros((), dtype)[()]


def _dtype(described: Any) -> "np.dtype[Any]":
    import numpy as np

    dtype = np.dtype(described if isinstance(described, str) else [tuple(field) for field in described])
    if dtype.hasobject or dtype.kind not in ARRAY_KINDS:
        raise WireError("an array is of objects, which only pickle can say")
    return dtype


_TUPLE, _ENUM, _NAMED_TUPLE, _DATA_CLASS, _PATH, _ARRAY, _SCALAR, _BODY = 1, 2, 3, 4, 5, 6, 7, 28

_Write = Callable[[Any], Iterable[object]]
_WRITERS: dict[type, tuple[int, _Write]] = {
    tuple: (_TUPLE, iter),
    set: (8, iter),
    frozenset: (9, iter),
    int: (10, lambda value: [_int_bytes(value)]),  # one that msgpack has no number for
    complex: (11, lambda value: [value.real, value.imag]),
    dt.datetime: (12, lambda value: [value.year, value.month, value.day, *_clock_of(value)]),
    dt.date: (13, lambda value: [value.toordinal()]),
    dt.time: (14, _clock_of),
    dt.timedelta: (15, lambda value: [value.days, value.seconds, value.microseconds]),
    decimal.Decimal: (16, lambda value: [str(value)]),
    fractions.Fraction: (17, lambda value: [value.numerator, value.denominator]),
    uuid.UUID: (18, lambda value: [value.bytes]),
    range: (19, lambda value: [value.start, value.stop, value.step]),
    slice: (20, lambda value: [value.start, value.stop, value.step]),
    bytearray: (21, lambda value: [bytes(value)]),
    deque: (22, lambda value: [value.maxlen, *value]),
    OrderedDict: (23, lambda value: [part for pair in value.items() for part in pair]),
    Counter: (24, lambda value: [dict(value)]),
    array: (25, lambda value: [value.typecode, value.tobytes()]),
    type(...): (26, lambda _: ()),
    type(NotImplemented): (27, lambda _: ()),
}

_READERS: dict[int, Callable[[_Reader, list[Any]], Any]] = {
    _TUPLE: lambda _, said: tuple(said),
    _ENUM: _read_enum,
    _NAMED_TUPLE: _read_named_tuple,
    _DATA_CLASS: _read_data_class,
    _PATH: _read_path,
    _ARRAY: _read_array,
    _SCALAR: _read_scalar,
    8: lambda _, said: set(said),
    9: lambda _, said: frozenset(said),
    10: lambda _, said: int.from_bytes(said[0], "big", signed=True),
    11: lambda _, said: complex(*said),
    12: _read_datetime,
    13: lambda _, said: dt.date.fromordinal(*said),
    14: _read_time,
    15: lambda _, said: dt.timedelta(*said),
    16: lambda _, said: decimal.Decimal(*said),
    17: lambda _, said: fractions.Fraction(*said),
    18: lambda _, said: uuid.UUID(bytes=said[0]),
    19: lambda _, said: range(*said),
    20: lambda _, said: slice(*said),
    21: lambda _, said: bytearray(*said),
    22: lambda _, said: deque(said[1:], said[0]),
    23: lambda _, said: OrderedDict(zip(said[::2], said[1::2], strict=True)),
    24: lambda _, said: Counter(dict(*said)),
    25: lambda _, said: _array(*said),
    _BODY: _read_body,
    26: lambda _, __: ...,
    27: lambda _, __: NotImplemented,
}


def _array(code: str, raw: bytes) -> "array[Any]":
    made: array[Any] = array(code)
    made.frombytes(raw)
    return made
