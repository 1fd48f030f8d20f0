"""How what a call raised comes back: as itself, with the traceback of where it was raised as its cause.

It travels as plain data. An agent that is trusted may send pickle beside it, for what has a constructor of its own; of
anybody else an exception is made without running its class: one that is imported here already, or its nearest base.
"""

import builtins
import contextlib
import sys
import traceback
from typing import Any

import msgspec

from discogrid.calls import codec
from discogrid.errors import UntrustedResult, WireError

TEXT_CHARACTERS_MAX = 64 * 1024  # of a traceback, its end


class Raised(msgspec.Struct, frozen=True, array_like=True):
    """An exception as it travels; `args` and `itself` as the codec makes them, empty where it cannot."""

    module: str
    name: str
    args: bytes
    text: str  # what str() says of it
    traceback: str
    notes: tuple[str, ...]
    itself: bytes


class RemoteError(Exception):
    """A call raised an exception of a class that is not known here; its name and text are in the message."""


def pack(error: BaseException) -> bytes:
    """The exception as bytes."""
    kind = type(error)
    lines = traceback.format_exception(kind, error, error.__traceback__)
    try:
        args = codec.dumps(_constructed_of(error))
    except Exception:  # noqa: BLE001 (anything may be in there)
        args = b""
    try:
        itself = codec.dumps(error.with_traceback(None))
    except Exception:  # noqa: BLE001
        itself = b""
    said = Raised(
        kind.__module__,
        kind.__qualname__,
        args,
        _text_of(error),
        "".join(lines)[-TEXT_CHARACTERS_MAX:],
        tuple(str(note) for note in getattr(error, "__notes__", ())),
        itself,
    )
    return msgspec.msgpack.encode(said)


def unpack(
    raw: bytes, *, trusted: bool, modules: tuple[str, ...] = ("__main__",), note: str = ""
) -> BaseException:
    """The exception, with the remote traceback as its cause and `note` added to its notes; WireError when it is damaged."""
    try:
        said = msgspec.msgpack.decode(raw, type=Raised)
    except msgspec.MsgspecError as error:
        raise WireError(f"an exception cannot be read: {error}") from None
    made = _itself(said, modules) if trusted else None
    if made is None:
        made = _alike(said, trusted=trusted, modules=modules)
    for line in (*said.notes, *([note] if note else [])):
        if line not in getattr(made, "__notes__", ()):
            made.add_note(line)
    from multiprocessing.pool import RemoteTraceback  # type: ignore[attr-defined]  # what programs look for

    made.__cause__ = RemoteTraceback(f'\n"""\n{said.traceback}"""')
    return made


def _constructed_of(error: BaseException) -> tuple[object, ...]:
    """What its nearest base in Python itself is made of: an OSError's file name is none of its args."""
    if type(error).__reduce__ in (BaseException.__reduce__, OSError.__reduce__):
        reduced = error.__reduce__()
        if isinstance(reduced, tuple) and isinstance(reduced[1], tuple):
            return reduced[1]
    return error.args


def _text_of(error: BaseException) -> str:
    try:
        return str(error)[-TEXT_CHARACTERS_MAX:]
    except Exception:  # noqa: BLE001 (its class is the caller's)
        return ""


def _itself(said: Raised, modules: tuple[str, ...]) -> BaseException | None:
    """From pickle, of whom we trust."""
    if not said.itself:
        return None
    with contextlib.suppress(
        Exception
    ):  # a constructor that wants more than the args: then one that is alike
        found = codec.loads(said.itself, trusted=True, modules=modules)
        if isinstance(found, BaseException):
            return found
    return None


def _alike(said: Raised, *, trusted: bool, modules: tuple[str, ...]) -> BaseException:
    """Of the same class, where that is known here, made without running anything of it."""
    args = _args_of(said, trusted=trusted, modules=modules)
    kind = _class_of(said)
    if kind is not None:
        base = next(one for one in kind.__mro__ if one.__module__ == builtins.__name__)
        try:
            made: BaseException = base.__new__(kind, *args)
        except Exception:  # noqa: BLE001 (such as a UnicodeDecodeError, whose args are checked)
            return RemoteError(f"{said.module}.{said.name}: {said.text}")
        _fill(made, base, args)
        return made
    return RemoteError(f"{said.module}.{said.name}: {said.text}")


def _fill(made: BaseException, base: Any, args: tuple[Any, ...]) -> None:
    """What Python's own constructors note beside the args: an errno, a file name, an exit code."""
    with contextlib.suppress(Exception):
        if base is not BaseException and base is not Exception:
            base.__init__(made, *args)


def _args_of(said: Raised, *, trusted: bool, modules: tuple[str, ...]) -> tuple[Any, ...]:
    if said.args:
        with contextlib.suppress(WireError, UntrustedResult):
            args = codec.loads(said.args, trusted=trusted, modules=modules)
            if isinstance(args, tuple):
                return args
    return (said.text,)


def _class_of(said: Raised) -> type[BaseException] | None:
    found: Any = sys.modules.get(said.module)
    for name in said.name.split("."):
        found = getattr(found, name, None)
    return found if isinstance(found, type) and issubclass(found, BaseException) else None
