"""How many blobs are sent at once."""

from discogrid.transfer.uploads import IDLE_S, Uploads
from discogrid.types import Digest

TREE, FILM = Digest("blake3:tree"), Digest("blake3:film")


def test_one_too_many_is_refused_until_another_has_ended() -> None:
    uploads = Uploads(2)
    assert uploads.take("barn", TREE, 0.0)
    assert uploads.take("barn", FILM, 0.0)
    assert not uploads.take("loft", TREE, 0.0)
    assert uploads.take("barn", FILM, 1.0), "one under way goes on"
    uploads.end("barn", FILM)
    assert uploads.take("loft", TREE, 1.0)
    assert not uploads.take("barn", FILM, 1.0)


def test_who_does_not_ask_on_makes_room() -> None:
    uploads = Uploads(1)
    uploads.take("barn", TREE, 0.0)
    assert not uploads.take("loft", TREE, IDLE_S - 0.1)
    assert uploads.take("loft", TREE, IDLE_S)
    uploads.end("barn", TREE)  # late, which is no harm
    assert not uploads.take("barn", TREE, IDLE_S)
