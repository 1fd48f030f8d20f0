"""Finds the programs that this machine may or may not have."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path


def find_ffmpeg() -> Path | None:
    """Find ffmpeg: the machine's own on PATH first, then the binary that imageio-ffmpeg carries.

    None when there is neither. imageio-ffmpeg is imported here and not above, so that
    a machine without the `demo` or `vision` extra loses nothing but the fallback.
    """
    on_path = shutil.which("ffmpeg")
    if on_path is not None:
        return Path(on_path).absolute()
    try:
        imageio_ffmpeg = importlib.import_module("imageio_ffmpeg")
        return Path(str(imageio_ffmpeg.get_ffmpeg_exe()))
    except (ImportError, RuntimeError):  # RuntimeError: installed, but without a binary for this platform
        return None
