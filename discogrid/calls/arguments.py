"""How arguments travel: as pickle, by value where they are of the caller's main program; large ones beside it."""

import pickle
from collections.abc import Mapping
from typing import Any

from discogrid.calls import parts, refusals
from discogrid.calls.parts import Aside, Content, Packed

MAIN_MARK = b"__main__"
"""In pickle: something that the other side has no module for."""

LARGE_KINDS = (bytes, bytearray)

Arguments = tuple[tuple[Any, ...], Mapping[str, Any]]


def pack_arguments(arguments: tuple[Any, ...], keywords: Mapping[str, Any], *, bound: bool = False) -> Packed:
    """Pickle of what a function is called with; `bound`: the first of them is what is called.

    Unshareable names what of it lives on this machine alone; what else pickle raises where something cannot travel.
    """
    aside = Aside()
    said = (
        tuple(map(_aside, arguments)),
        {name: _aside(value) for name, value in keywords.items()},
    )
    try:
        packed = pickle.dumps(said, pickle.HIGHEST_PROTOCOL, buffer_callback=aside.take)
        suspect = refusals.MARK in packed
    except Exception:  # noqa: BLE001 (cloudpickle knows more, or says it again)
        packed, suspect = b"", False
    if not packed or MAIN_MARK in packed:
        aside = Aside()
        packed = _by_value(said, aside, _named(arguments, keywords, bound=bound))
        suspect = refusals.MARK in packed or refusals.MARK_BY_VALUE in packed
    if suspect:
        refusals.check(_named(arguments, keywords, bound=bound))
    return aside.packed(packed)


def unpack_arguments(content: bytes | Content) -> Any:
    """What `pack_arguments` and `rows` packed; whatever their classes raise, for this runs them. WireError when it is damaged."""
    head, bodies = parts.opened(content)
    return pickle.loads(head, buffers=bodies)  # noqa: S301 (signed by who is to run code here)


def _aside(value: Any) -> Any:
    """The value in a form that pickle takes for large where it is: bytes have none of themselves."""
    if type(value) in LARGE_KINDS and len(value) >= parts.BODY_BYTES_MIN:
        return pickle.PickleBuffer(value)
    return value


def _by_value(said: Arguments, aside: Aside, named: Mapping[str, Any]) -> bytes:
    import cloudpickle

    try:
        return bytes(cloudpickle.dumps(said, protocol=pickle.HIGHEST_PROTOCOL, buffer_callback=aside.take))
    except Exception as error:
        refusals.check(named, error)
        raise


def _named(arguments: tuple[Any, ...], keywords: Mapping[str, Any], *, bound: bool) -> dict[str, Any]:
    """Each of them by what an error calls it."""
    called = {"what is called": arguments[0]} if bound else {}
    rest = arguments[1:] if bound else arguments
    places = {f"argument {place}": value for place, value in enumerate(rest, 1)}
    return {**called, **places, **{f"argument {name}": value for name, value in keywords.items()}}
