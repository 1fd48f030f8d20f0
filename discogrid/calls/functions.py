"""How a function travels: by value, with the sources of the caller's own modules that it may import.

What is in `__main__`, a notebook or a closure is pickled by value; what comes from a module of the caller's own goes by
name, and the module's source goes along, so that nothing has to be installed and `__main__` is never run again. Modules
that were installed are expected where the function runs.
"""

import ast
import functools
import importlib.machinery
import inspect
import io
import linecache
import pickle
import pickletools
import site
import sys
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

import msgspec

from discogrid.calls import refusals
from discogrid.errors import InputError, WireError

MODULES_MAX = 512  # of the caller's own, of one function
MODULE_BYTES_MAX = 1 << 20  # of the source of one
SOURCES_BYTES_MAX = 16 << 20  # of all of them
FUNCTION_BYTES_MAX = 256 << 20  # with what it holds
HEAVY_BYTES = 1 << 20  # of an object that a function holds, from which on it is named

NAMELESS = "<dynamic-code>"  # what cloudpickle calls every file
OURS = "discogrid"  # is wherever functions run, in the version of that place


class HeavyFunction(UserWarning):
    """A function holds large objects, which are sent wherever it runs; as arguments they would be sent once a call."""


class Source(msgspec.Struct, frozen=True, array_like=True):
    """A module of the caller's own."""

    text: bytes
    package: bool
    path: str  # where the caller has it, for tracebacks


class Parcel(msgspec.Struct, frozen=True, array_like=True):
    """A function as it travels. `python` is the version, as (major, minor), that can read it."""

    python: tuple[int, int]
    name: str
    body: bytes  # pickle
    modules: dict[str, Source]
    texts: dict[str, str]  # of what else code in it was written in, by file name or cell, for tracebacks


@dataclass(frozen=True, slots=True)
class Heavy:
    """An object that a function holds, which is sent wherever it runs."""

    name: str
    size: int  # in bytes, pickled


def pack(function: Callable[..., Any]) -> bytes:
    """The function as bytes; InputError names what of it cannot travel, and why."""
    name = _name_of(function)
    try:
        body, files = _pickled(function)
    except Exception as error:
        refusals.check(_parts_of(function), error, f"the function {name} cannot be sent: ")
        raise InputError(
            f"the function {name} cannot be sent: {error}",
            why="It holds something that lives in this process alone: a lock, a socket, an open file, a queue.",
            fix="Make it inside of the function, or give what it stands for as an argument.",
        ) from error
    if refusals.MARK in body or refusals.MARK_BY_VALUE in body:
        refusals.check(_parts_of(function), None, f"the function {name} cannot be sent: ")
    if len(body) > FUNCTION_BYTES_MAX:
        raise InputError(
            f"the function {name} is {len(body)} bytes long with all that it holds; {FUNCTION_BYTES_MAX} are allowed",
            why=", ".join(f"{heavy.name}: {heavy.size} bytes" for heavy in heavy_parts(function)),
            fix="Give large objects as arguments.",
        )
    parcel = Parcel(sys.version_info[:2], name, body, modules_for(body), _texts_of(files))
    return msgspec.msgpack.encode(parcel)


def is_plain(function: Callable[..., Any]) -> bool:
    """Whether it is a function or class as such, and not one that is bound to an object or is an object itself."""
    if isinstance(function, BuiltinFunctionType):
        return isinstance(function.__self__, ModuleType)
    return isinstance(function, FunctionType | type)


def call(function: Callable[..., Any], /, *arguments: Any, **keywords: Any) -> Any:
    """Call it: so that what is bound to an object travels as an argument, and is nobody's when its call is over."""
    return function(*arguments, **keywords)


def read(raw: bytes) -> Parcel:
    """What `pack` made, not opened yet; WireError when it is something else."""
    try:
        return msgspec.msgpack.decode(raw, type=Parcel)
    except msgspec.MsgspecError as error:
        raise WireError(f"a function cannot be read: {error}") from None


def unpack(parcel: Parcel) -> Callable[..., Any]:
    """The function, its modules made importable in this process. Runs code of the caller's: only in a box, or as the caller."""
    for file, text in parcel.texts.items():
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    if parcel.modules:
        from discogrid.calls.source_finder import SourceFinder  # most functions bring none, and it takes 6 ms

        sys.meta_path.insert(0, SourceFinder(parcel.modules))
    function: Callable[..., Any] = pickle.loads(parcel.body)  # noqa: S301 (signed by who is to run code here)
    _be_main(function)
    return function


def _be_main(function: Callable[..., Any]) -> None:
    """What is of the caller's main program is found in the module of that name: a pool that a call makes looks there."""
    main = sys.modules["__main__"]
    known = {**getattr(function, "__globals__", {}), getattr(function, "__name__", ""): function}
    for name, value in known.items():
        if getattr(value, "__module__", "") == "__main__" and getattr(value, "__qualname__", "") == name:
            setattr(main, name, value)


def warn_when_heavy(function: Callable[..., Any], content: bytes) -> None:
    """HeavyFunction, once, where the function is written, when what it holds of `content`, which it was packed to, is large."""
    if (
        len(content) <= HEAVY_BYTES
        or len(read(content).body) <= HEAVY_BYTES
        or not (heavy := heavy_parts(function))
    ):
        return
    code = getattr(inspect.unwrap(function), "__code__", None)
    warnings.warn_explicit(
        f"the function {_name_of(function)} is sent with "
        + ", ".join(f"{part.name} ({part.size / 1e6:.1f} MB)" for part in heavy)
        + ": give it as an argument, or make it inside of the function",
        HeavyFunction,
        code.co_filename if code else "<unknown>",
        code.co_firstlineno if code else 0,
        registry=_warned,
    )


def heavy_parts(function: Callable[..., Any]) -> list[Heavy]:
    """What the function holds of HEAVY_BYTES or more, the heaviest first."""
    import cloudpickle

    if not inspect.isfunction(inner := inspect.unwrap(function)):
        return []
    known = inspect.getclosurevars(inner)
    found: list[Heavy] = []
    for name, value in {**known.globals, **known.nonlocals}.items():
        if isinstance(value, ModuleType | type) or inspect.isroutine(value):
            continue
        try:
            size = len(cloudpickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL))
        except Exception:  # noqa: BLE001, S112 (it does not travel: its module does, by name)
            continue
        if size >= HEAVY_BYTES:
            found.append(Heavy(name, size))
    return sorted(found, key=lambda heavy: -heavy.size)


_warned: dict[str | tuple[str, type[Warning], int], int] = {}  # the warning system's own


def _name_of(function: Callable[..., Any]) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__qualname__", type(function).__qualname__))


def _parts_of(function: Callable[..., Any]) -> dict[str, Any]:
    """What the function holds, each by what an error calls it."""
    if isinstance(function, functools.partial):
        places = {f"argument {place}": value for place, value in enumerate(function.args, 1)}
        named = {f"argument {name}": value for name, value in function.keywords.items()}
        return {**places, **named, **_parts_of(function.func)}
    inner = inspect.unwrap(function)
    if not inspect.isfunction(inner):
        return {"it": function}
    known = inspect.getclosurevars(inner)
    defaults = [*(inner.__defaults__ or ()), *(inner.__kwdefaults__ or {}).values()]
    return {
        **{f"its variable {name}": value for name, value in {**known.globals, **known.nonlocals}.items()},
        "a default of its arguments": defaults,
        "it": function,
    }


def _pickled(function: Callable[..., Any]) -> tuple[bytes, set[str]]:
    """Pickle of it, and the files that its code was written in, which cloudpickle makes nameless."""
    import cloudpickle

    files: set[str] = set()

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
        def reducer_override(self, value: Any) -> Any:
            if isinstance(value, FunctionType) and (decorated := _decorated(value)) is not None:
                return getattr, (decorated, "__wrapped__")
            if not isinstance(value, CodeType):
                return super().reducer_override(value)
            files.add(value.co_filename)
            make, parts = self.dispatch_table[CodeType](value)[:2]
            return make, tuple(value.co_filename if part == NAMELESS else part for part in parts)

    with io.BytesIO() as content:
        Pickler(content, protocol=pickle.HIGHEST_PROTOCOL).dump(function)
        return content.getvalue(), files


def _decorated(function: FunctionType) -> Any:
    """What a module has under the name of this function instead, whose `__wrapped__` it is: by that it goes by name, too."""
    if function.__module__ in (None, "__main__"):
        return None
    found: Any = sys.modules.get(function.__module__)
    for name in function.__qualname__.split("."):
        found = getattr(found, name, None)
    return found if getattr(found, "__wrapped__", None) is function else None


def _texts_of(files: set[str]) -> dict[str, str]:
    found = {file: "".join(linecache.getlines(file)) for file in sorted(files)}
    return {file: text for file, text in found.items() if 0 < len(text) <= MODULE_BYTES_MAX}


# -- which modules


def strings_in(body: bytes) -> set[str]:
    """All texts in a pickle: among them the modules that it names, and those that a function in it imports when it runs."""
    return {value for _, value, _ in pickletools.genops(body) if isinstance(value, str)}


def modules_for(body: bytes) -> dict[str, Source]:
    """What a function of this pickle needs, and what else of the caller's own is loaded: its arguments may be of that."""
    needed = own_modules(strings_in(body))
    size = sum(len(source.text) for source in needed.values())
    for name in list(sys.modules):
        if name in needed or len(needed) >= MODULES_MAX:
            continue
        try:
            source = _own_source(name)
        except (InputError, OSError):
            continue  # a function that needs it says so
        if source is not None and size + len(source.text) <= SOURCES_BYTES_MAX:
            needed[name] = source
            _parent(name, needed)
            size += len(source.text)
    return needed


def own_modules(names: set[str]) -> dict[str, Source]:
    """Those of the names that are modules of the caller's own, and all such modules that these import in their turn."""
    found: dict[str, Source] = {}
    left = [name for name in sorted(names) if _may_be_module(name)]
    size = 0
    while left:
        name = left.pop()
        if name in found or (source := _own_source(name)) is None:
            continue
        found[name] = source
        size += len(source.text)
        if len(found) > MODULES_MAX or size > SOURCES_BYTES_MAX:
            raise InputError(
                f"the function imports more than {MODULES_MAX} modules of your own, or {SOURCES_BYTES_MAX} bytes of them",
                fix="Install them where it runs (--requirements), or move it away from what it does not need.",
            )
        left += imported_by(source.text, name, package=source.package)
        left += _parent(name, found)
    return found


def _parent(name: str, found: dict[str, Source]) -> list[str]:
    """The package that a module of the caller's own is in, still to be found; a folder without __init__.py is one, too."""
    parent = name.rpartition(".")[0]
    if not parent or parent in found:
        return []
    spec = _spec_of(parent)
    if spec is None or spec.has_location or spec.submodule_search_locations is None:
        return [parent]
    found[parent] = Source(b"", package=True, path="")
    return _parent(parent, found)


def imported_by(text: bytes, name: str, *, package: bool) -> Iterator[str]:
    """The full names of what a module's source imports anywhere, also when its functions run."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return  # it says so itself where it is imported
    parent = name if package else name.rpartition(".")[0]
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                base = _base_of(parent, module, level)
                yield base
                yield from (f"{base}.{alias.name}" for alias in names)
            case _:
                pass


def _base_of(parent: str, module: str | None, level: int) -> str:
    if not level:
        return module or ""
    parts = parent.split(".")
    return ".".join([*parts[: len(parts) - level + 1], *([module] if module else [])])


def _may_be_module(name: str) -> bool:
    return len(name) < 256 and all(part.isidentifier() for part in name.split("."))


def _own_source(name: str) -> Source | None:
    """The source of a module of the caller's own; None for any other name. InputError where it cannot travel."""
    top = name.partition(".")[0]
    if not name or top in (OURS, "__main__") or top in sys.builtin_module_names:
        return None
    spec = _spec_of(name)
    if spec is None or not isinstance(spec.origin, str) or not is_own(spec.origin):
        return None
    if not spec.origin.endswith(tuple(importlib.machinery.SOURCE_SUFFIXES)):
        raise InputError(
            f"the function needs your module {name}, which is no Python source ({spec.origin})",
            why="A compiled module runs on machines like this one alone.",
            fix="Build a wheel of it and install that where the function runs.",
        )
    text = Path(spec.origin).read_bytes()
    if len(text) > MODULE_BYTES_MAX:
        raise InputError(
            f"your module {name} ({spec.origin}) is longer than {MODULE_BYTES_MAX} bytes",
            fix="Keep data in files or arguments, not in source.",
        )
    return Source(text, spec.submodule_search_locations is not None, spec.origin)


def _spec_of(name: str) -> importlib.machinery.ModuleSpec | None:
    """Where a module comes from, without running anything of it or of its packages."""
    if (known := sys.modules.get(name)) is not None:
        return getattr(known, "__spec__", None)
    parent = name.rpartition(".")[0]
    where = None
    if parent:
        above = _spec_of(parent)
        if above is None or above.submodule_search_locations is None:
            return None
        where = list(above.submodule_search_locations)
    return importlib.machinery.PathFinder.find_spec(name, where)


def is_own(origin: str) -> bool:
    """Whether a module at this path is the caller's own: neither Python's nor installed."""
    path = Path(origin)
    return path.is_absolute() and not any(path.is_relative_to(place) for place in _installed_places())


@functools.cache  # nothing moves while a program runs, and to ask Python for it takes half a millisecond
def _installed_places() -> tuple[Path, ...]:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    places = [sysconfig.get_path(name) for name in names]
    return tuple(Path(place) for place in {*places, *site.getsitepackages(), site.getusersitepackages()})
