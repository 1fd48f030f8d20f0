"""The keywords that every face has for where and how its calls run, and the options that they mean."""

import difflib
import functools
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypedDict, cast

from discogrid.quantities import parse_duration, parse_size
from discogrid.remote.options import CallOptions

Name = str | os.PathLike[str]


class PlaceKeywords(TypedDict, total=False):
    """Where and how calls run; see CallOptions for what is meant when one is not given."""

    grid: str | None
    local: bool
    box: bool
    network: bool
    timeout: float | str | None  # in seconds, or text such as "90s", "15m", "1h30m"
    cpus: int
    memory: int | str  # in bytes, or text such as "512M", "2G"
    gpus: int
    needs: str | Iterable[str]
    const: Name | Iterable[Name]


class CallKeywords(PlaceKeywords, total=False):
    """The same, and the job's name."""

    name: str


def call_options(
    asked: PlaceKeywords,
    *,
    processes: int | None = None,
    initializer: Callable[..., object] | None = None,
    initargs: Iterable[Any] = (),
    calls_max: int | None = None,
) -> CallOptions:
    """What these keywords mean. TypeError for one that nobody knows, ValueError for a value that means nothing."""
    for keyword in asked.keys() - CallKeywords.__annotations__.keys():
        near = difflib.get_close_matches(keyword, CallKeywords.__annotations__, 1)
        raise TypeError(f"there is no option {keyword!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    if initializer is not None and not callable(initializer):
        raise TypeError("initializer must be a callable")
    arguments = tuple(initargs)
    return CallOptions(
        grid=asked.get("grid"),
        local=asked.get("local", False),
        box=asked.get("box", False),
        network=asked.get("network", False),
        processes=processes,
        initializer=functools.partial(initializer, *arguments) if initializer and arguments else initializer,
        calls_max=calls_max,
        timeout=_seconds(asked.get("timeout")),
        cpus=_at_least(1, "cpus", asked.get("cpus", 1)),
        memory_bytes=_bytes(asked.get("memory", 0)),
        gpus=_at_least(0, "gpus", asked.get("gpus", 0)),
        needs=_needs(asked.get("needs", ())),
        const=_const(asked.get("const", ())),
        name=cast("CallKeywords", asked).get("name", ""),
    )


def _at_least(least: int, keyword: str, value: int) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{keyword} must be a whole number, not {value!r}")
    if value < least:
        raise ValueError(f"{keyword} must be {least} or more, not {value}")
    return value


def _seconds(value: float | str | None) -> float | None:
    if value is None:
        return None
    seconds = parse_duration(value) if isinstance(value, str) else float(value)
    if not seconds > 0:
        raise ValueError(f"timeout must be more than 0 seconds, not {value!r}")
    return seconds


def _bytes(value: int | str) -> int:
    return parse_size(value) if isinstance(value, str) else _at_least(0, "memory", value)


def _needs(value: str | Iterable[str]) -> tuple[str, ...]:
    names = value.split(",") if isinstance(value, str) else value
    return tuple(name.strip() for name in names if name.strip())


def _const(value: Name | Iterable[Name]) -> tuple[Path, ...]:
    names = [value] if isinstance(value, str | os.PathLike) else value
    return tuple(Path(os.path.abspath(name)) for name in names)
