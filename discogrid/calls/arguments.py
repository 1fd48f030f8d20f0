"""How arguments travel: as pickle, by value where they are of the caller's main program."""

import pickle
from collections.abc import Mapping
from typing import Any

from discogrid.calls import refusals

MAIN_MARK = b"__main__"
"""In pickle: something that the other side has no module for."""

Arguments = tuple[tuple[Any, ...], Mapping[str, Any]]


def pack_arguments(arguments: tuple[Any, ...], keywords: Mapping[str, Any], *, bound: bool = False) -> bytes:
    """Pickle of what a function is called with; `bound`: the first of them is what is called.

    Unshareable names what of it lives on this machine alone; what else pickle raises where something cannot travel.
    """
    try:
        packed = pickle.dumps((arguments, dict(keywords)), pickle.HIGHEST_PROTOCOL)
        suspect = refusals.MARK in packed
    except Exception:  # noqa: BLE001 (cloudpickle knows more, or says it again)
        packed, suspect = b"", False
    if not packed or MAIN_MARK in packed:
        packed = _by_value(arguments, keywords, bound=bound)
        suspect = refusals.MARK in packed or refusals.MARK_BY_VALUE in packed
    if suspect:
        refusals.check(_named(arguments, keywords, bound=bound))
    return packed


def _by_value(arguments: tuple[Any, ...], keywords: Mapping[str, Any], *, bound: bool) -> bytes:
    import cloudpickle

    try:
        return bytes(cloudpickle.dumps((arguments, dict(keywords)), protocol=pickle.HIGHEST_PROTOCOL))
    except Exception as error:
        refusals.check(_named(arguments, keywords, bound=bound), error)
        raise


def _named(arguments: tuple[Any, ...], keywords: Mapping[str, Any], *, bound: bool) -> dict[str, Any]:
    """Each of them by what an error calls it."""
    called = {"what is called": arguments[0]} if bound else {}
    rest = arguments[1:] if bound else arguments
    places = {f"argument {place}": value for place, value in enumerate(rest, 1)}
    return {**called, **places, **{f"argument {name}": value for name, value in keywords.items()}}
