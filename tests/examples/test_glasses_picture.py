"""Pictures with glasses: of every shape, depth and orientation that people have."""

import ast
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.examples.footage import EXAMPLES, Pixels, eyes_of, lenses_differ, run_example

PICTURE_SCRIPTS = pytest.mark.parametrize("script", ["glasses_2.py", "glasses_5.py"])


def read(path: Path, flags: int = cv2.IMREAD_COLOR) -> Pixels:
    picture = cv2.imread(str(path), flags)
    assert picture is not None
    return np.asarray(picture, np.uint8)


@pytest.fixture
def bare(portrait: Path) -> Pixels:
    return read(portrait)


def photo_differs(example: ModuleType, bare: Pixels, one: Pixels) -> list[float]:
    return lenses_differ(example, bare, one, long_side=example.PHOTO_SIDE)


@PICTURE_SCRIPTS
def test_a_portrait_wears_glasses_and_not_a_pixel_else_changes(
    script: str, portrait: Path, bare: Pixels, glasses_5: ModuleType, tmp_path: Path
) -> None:
    ended = run_example(script, portrait, "out.png", cwd=tmp_path)
    assert (ended.returncode, ended.stderr, ended.stdout) == (0, "", "out.png: 1 faces\n")
    out = read(tmp_path / "out.png")
    assert min(photo_differs(glasses_5, bare, out)) > 40
    rows, columns = np.nonzero((bare != out).any(axis=2))
    ((left, right),) = eyes_of(glasses_5, bare, glasses_5.PHOTO_SIDE)
    width = abs(right - left) / 706 * 1506
    assert columns.max() - columns.min() <= width + 4
    assert (columns.max() + columns.min()) / 2 == pytest.approx((left.real + right.real) / 2, abs=4)
    assert (rows.max() + rows.min()) / 2 == pytest.approx((left.imag + right.imag) / 2, abs=4)


@PICTURE_SCRIPTS
def test_a_task_writes_disco_name_into_run_result(script: str, portrait: Path, tmp_path: Path) -> None:
    name = "-Größe 1\n.png"
    (tmp_path / name).write_bytes(portrait.read_bytes())
    assert run_example(script, name, cwd=tmp_path).returncode == 0
    assert {path.name for path in tmp_path.rglob("*")} == {name, "run-result", f"disco_{name}"}


def test_a_jpeg_without_faces_is_the_same_file(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (90, 160, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "in.jpg"), noise)
    run_example("glasses_5.py", "in.jpg", "out.jpg", cwd=tmp_path)
    assert (tmp_path / "out.jpg").read_bytes() == (tmp_path / "in.jpg").read_bytes()


@PICTURE_SCRIPTS
def test_a_picture_without_faces_keeps_its_pixels(script: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (90, 160, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "in.png"), noise)
    run_example(script, "in.png", "out.png", cwd=tmp_path)
    assert np.array_equal(read(tmp_path / "out.png"), noise)


@PICTURE_SCRIPTS
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_grey_picture_wears_coloured_glasses(
    script: str, suffix: str, bare: Pixels, glasses_5: ModuleType, tmp_path: Path
) -> None:
    cv2.imwrite(str(tmp_path / f"grey.{suffix}"), cv2.cvtColor(bare, cv2.COLOR_BGR2GRAY))
    assert run_example(script, f"grey.{suffix}", "out.png", cwd=tmp_path).returncode == 0
    out, grey = read(tmp_path / "out.png"), read(tmp_path / f"grey.{suffix}")
    assert min(photo_differs(glasses_5, grey, out)) > 40
    assert np.ptp(out.astype(int), axis=2).max() > 100  # colours


def test_a_transparent_picture_stays_transparent_around_the_glasses(
    bare: Pixels, glasses_5: ModuleType, tmp_path: Path
) -> None:
    alpha = np.full(bare.shape[:2], 255, np.uint8)
    alpha[:, :150] = 0
    alpha[:, 300:] = 128
    cv2.imwrite(str(tmp_path / "in.png"), np.dstack([bare, alpha]))
    assert run_example("glasses_5.py", "in.png", "out.png", cwd=tmp_path).returncode == 0
    out = read(tmp_path / "out.png", cv2.IMREAD_UNCHANGED)
    assert out.shape == (512, 512, 4)
    assert np.array_equal(out[300:], np.dstack([bare, alpha])[300:])
    assert min(photo_differs(glasses_5, bare, np.ascontiguousarray(out[..., :3]))) > 40
    assert (out[..., 3] >= alpha).all()


@PICTURE_SCRIPTS
@pytest.mark.parametrize(
    ("orientation", "turn"), [(3, Image.Transpose.ROTATE_180), (6, Image.Transpose.ROTATE_90)]
)
def test_a_photograph_is_turned_as_its_exif_says(
    script: str,
    orientation: int,
    turn: Image.Transpose,
    portrait: Path,
    bare: Pixels,
    glasses_5: ModuleType,
    tmp_path: Path,
) -> None:
    with Image.open(portrait) as upright:
        exif = Image.Exif()
        exif[0x0112] = orientation
        upright.transpose(turn).save(tmp_path / "photo.jpg", exif=exif, quality=97)
    assert run_example(script, "photo.jpg", "out.jpg", cwd=tmp_path).returncode == 0
    with Image.open(tmp_path / "out.jpg") as out:
        assert out.getexif().get(0x0112, 1) == 1
    assert min(photo_differs(glasses_5, bare, read(tmp_path / "out.jpg"))) > 40


@PICTURE_SCRIPTS
@pytest.mark.parametrize("cut", [np.s_[:, 180:], np.s_[:, :265], np.s_[88:, :]])
def test_a_face_at_the_border_wears_what_fits(
    script: str, cut: tuple[slice, slice], bare: Pixels, tmp_path: Path
) -> None:
    piece = cv2.resize(np.ascontiguousarray(bare[cut]), None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(tmp_path / "in.png"), piece)
    ended = run_example(script, "in.png", "out.png", cwd=tmp_path)
    assert ended.returncode == 0
    changed = (read(tmp_path / "out.png") != piece).any(axis=2)
    assert changed.any()
    assert changed[:, 0].any() or changed[:, -1].any() or changed[0].any()  # cut off, not left out


@PICTURE_SCRIPTS
@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (3, 2), (17, 33)])
def test_a_tiny_picture_is_no_trouble(script: str, shape: tuple[int, int], tmp_path: Path) -> None:
    tiny = np.full((*shape, 3), 77, np.uint8)
    cv2.imwrite(str(tmp_path / "in.png"), tiny)
    assert run_example(script, "in.png", "out.png", cwd=tmp_path).returncode == 0
    assert np.array_equal(read(tmp_path / "out.png"), tiny)


@PICTURE_SCRIPTS
def test_sixteen_bits_become_eight(script: str, bare: Pixels, glasses_5: ModuleType, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "deep.png"), bare.astype(np.uint16) * 257)
    assert run_example(script, "deep.png", "out.png", cwd=tmp_path).returncode == 0
    assert min(photo_differs(glasses_5, bare, read(tmp_path / "out.png"))) > 40


@PICTURE_SCRIPTS
@pytest.mark.parametrize("fault", ["missing", "empty", "text", "cut off", "folder"])
def test_an_input_that_is_no_picture_is_exit_2_with_one_line(
    script: str, fault: str, portrait: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.png"
    match fault:
        case "empty":
            bad.touch()
        case "text":
            bad.write_text("not a picture\n")
        case "cut off":
            bad.write_bytes(portrait.read_bytes()[:40])
        case "folder":
            bad.mkdir()
    ended = run_example(script, "bad.png", "out.png", cwd=tmp_path, OPENCV_LOG_LEVEL="OFF")
    assert ended.returncode == 2
    assert len([line for line in ended.stderr.splitlines() if line.startswith("glasses_")]) == 1
    assert "bad.png" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert {path.name for path in tmp_path.iterdir()} <= {"bad.png"}


@PICTURE_SCRIPTS
@pytest.mark.parametrize("out", ["out.unheard-of", "no/such/folder/out.png"])
def test_a_picture_that_cannot_be_written_is_exit_1(
    script: str, out: str, portrait: Path, tmp_path: Path
) -> None:
    ended = run_example(script, portrait, out, cwd=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("glasses_")
    assert "Traceback" not in ended.stderr
    assert list(tmp_path.iterdir()) == []


@PICTURE_SCRIPTS
def test_the_same_bytes_twice(script: str, portrait: Path, tmp_path: Path) -> None:
    for name, threads in (("one.png", "1"), ("two.png", "2")):
        run_example(script, portrait, name, cwd=tmp_path, OMP_NUM_THREADS=threads)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


@PICTURE_SCRIPTS
def test_all_fifteen_of_a_real_team_wear_glasses(script: str, real_media: Path, tmp_path: Path) -> None:
    assert (
        run_example(script, real_media / "team.jpg", "out.jpg", cwd=tmp_path).stdout == "out.jpg: 15 faces\n"
    )


def test_what_the_steps_share_is_the_same_code() -> None:
    """Each step is one file, as a grid wants it; this keeps what they repeat from drifting apart."""
    steps = [ast.parse((EXAMPLES / f"glasses_{n}.py").read_text()) for n in (2, 3)]
    pictures, videos = (
        {node.name: ast.unparse(node) for node in step.body if isinstance(node, ast.FunctionDef)}
        for step in steps
    )
    shared = pictures.keys() & videos.keys() - {"main"}
    assert shared == {"load_models", "draw_glasses", "find_eyes", "wear"}
    assert {name: pictures[name] for name in shared} == {name: videos[name] for name in shared}


def test_hello_disco_greets_with_and_without_an_input(tmp_path: Path) -> None:
    alone = run_example("hello_disco.py", cwd=tmp_path)
    task = run_example("hello_disco.py", "a b.txt", cwd=tmp_path, DISCOGRID_INDEX="4", DISCOGRID_COUNT="9")
    assert alone.stdout.startswith("hello disco!")
    assert task.stdout.startswith("hello a b.txt! This is task 5 of 9, ")
    assert (tmp_path / "run-result" / "hello_disco.txt").read_text() == alone.stdout
    assert (tmp_path / "run-result" / "hello_a b.txt.txt").read_text() == task.stdout
