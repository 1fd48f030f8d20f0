"""Which ffmpeg is found where."""

import subprocess
import sys
import types
from pathlib import Path

import pytest

from discogrid import programs


def test_the_machine_s_own_ffmpeg_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = tmp_path / "ffmpeg"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert programs.find_ffmpeg() == own


def test_without_one_on_path_the_binary_of_imageio_ffmpeg_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = programs.find_ffmpeg()
    assert found is not None
    assert b"ffmpeg version" in subprocess.run([found, "-version"], check=True, capture_output=True).stdout


def test_without_imageio_ffmpeg_there_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    assert programs.find_ffmpeg() is None


def test_imageio_ffmpeg_without_a_binary_for_this_platform_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def get_ffmpeg_exe() -> str:
        raise RuntimeError("no ffmpeg exe could be found")

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", types.SimpleNamespace(get_ffmpeg_exe=get_ffmpeg_exe))
    assert programs.find_ffmpeg() is None


def test_the_module_alone_imports_no_imageio_ffmpeg() -> None:
    code = "import sys, discogrid.programs; sys.exit('imageio_ffmpeg' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
