"""What a script needs, by its text alone."""

import pytest

from discogrid.imports import MODULES_MAX, SOURCE_BYTES_MAX, needed_modules


@pytest.mark.parametrize(
    ("source", "needed"),
    [
        ("import cv2", ("cv2",)),
        ("import numpy.linalg as la, os, cv2", ("numpy", "cv2")),
        ("from skimage.io import imread", ("skimage",)),
        ("from __future__ import annotations\nimport json, dlib", ("dlib",)),
        ("from . import beside\nfrom .other import x", ()),
        ("try:\n    import cv2\nexcept ImportError:\n    cv2 = None", ()),
        ("if False:\n    import cv2", ()),
        ("def f():\n    import cv2", ()),
        ("import sys\nsys.path.append('/mnt')\nimport mine", ()),
        ("import sys, cv2\nsys.path.insert(0, 'x'); import mine", ("cv2",)),
        ("import sys\ndef f():\n    return sys.path\nimport cv2", ("cv2",)),
        ("import helper, cv2", ("cv2",)),
        ("import cv2\nimport cv2", ("cv2",)),
        ("def (", ()),
        ("import \0", ()),
        ("import na\u00efve", ("na\u00efve",)),
        ("(" * 10_000, ()),
    ],
)
def test_what_is_imported_whatever_happens_is_needed(source: str, needed: tuple[str, ...]) -> None:
    assert needed_modules(source.encode(), {"helper"}) == needed


def test_a_script_is_read_up_to_a_size_and_names_a_bounded_number() -> None:
    many = "".join(f"import m{number}\n" for number in range(MODULES_MAX + 9)).encode()
    assert len(needed_modules(many)) == MODULES_MAX
    assert needed_modules(b"import cv2\n" + b"#" * SOURCE_BYTES_MAX) == ()
