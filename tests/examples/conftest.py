"""The footage that the tests share: a short generated movie and a portrait."""

from fractions import Fraction
from pathlib import Path
from types import ModuleType

import pytest

from discogrid.demo.movie import find_portrait, make_movie
from tests.examples.footage import REAL_MEDIA, load_example
from tests.skips import NO_LICENCE


@pytest.fixture(scope="session")
def movie(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds, 640 by 360 pixels, 30000/1001 frames a second, with sound: 60 frames of one face."""
    return make_movie(tmp_path_factory.mktemp("footage") / "movie.mp4", seconds=2, size=(640, 360))


@pytest.fixture(scope="session")
def glasses_5() -> ModuleType:
    return load_example("glasses_5")


@pytest.fixture(scope="session")
def portrait() -> Path:
    return find_portrait()


@pytest.fixture
def real_media() -> Path:
    if not REAL_MEDIA.is_dir():
        pytest.skip(NO_LICENCE)
    return REAL_MEDIA


@pytest.fixture(scope="session")
def ntsc() -> Fraction:
    return Fraction(30000, 1001)
