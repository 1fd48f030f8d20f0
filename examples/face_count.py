"""Counts the faces in videos over time, and plots them: in one process, in several, or on a grid.

    python face_count.py --form single film.mp4 other.mp4
    python face_count.py --form multiprocessing *.mp4
    python face_count.py --form discomp *.mp4        a call for each video
    python face_count.py --form batches *.mp4        a call for some videos, with a pool of its own inside

Every form writes the same faces.csv (video, seconds, faces) and faces.png. A call gets a video's bytes and returns
numbers, so that it does not matter which machine it runs on.
"""

import argparse
import csv
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

LONG_SIDE = 640  # pixels, in which faces are looked for
BATCH = 2  # videos in one call
Series = list[tuple[float, int]]
Video = tuple[str, bytes, int]


def count_faces(name: str, content: bytes, every: int) -> Series:
    """(seconds, faces) of each `every`-th frame of a video; ValueError when it is none."""
    import cv2
    import dlib

    detector = dlib.get_frontal_face_detector()
    with tempfile.NamedTemporaryFile(suffix=Path(name).suffix) as file:
        file.write(content)
        file.flush()
        video = cv2.VideoCapture(file.name)
        rate = video.get(cv2.CAP_PROP_FPS)
        if not video.isOpened() or not rate > 0:
            raise ValueError(f"{name} is no video that can be read")
        found: Series = []
        number = 0
        while video.grab():
            if number % every == 0:
                _, frame = video.retrieve()
                scale = min(1.0, LONG_SIDE / max(frame.shape[:2]))
                grey = cv2.cvtColor(cv2.resize(frame, None, fx=scale, fy=scale), cv2.COLOR_BGR2GRAY)
                found.append((round(number / rate, 3), len(detector(grey))))
            number += 1
        video.release()
    return found


def count_some(videos: Sequence[Video]) -> list[Series]:
    """The same for several videos, side by side on the machine where it runs."""
    with multiprocessing.Pool(min(len(videos), os.cpu_count() or 1)) as pool:
        return pool.starmap(count_faces, videos)


def single(videos: Sequence[Video]) -> list[Series]:
    """One after the other."""
    return [count_faces(*video) for video in videos]


def several(videos: Sequence[Video]) -> list[Series]:
    """In processes of this machine."""
    with multiprocessing.Pool() as pool:
        return pool.starmap(count_faces, videos)


def on_the_grid(videos: Sequence[Video]) -> list[Series]:
    """A call for each video."""
    from discogrid.discomp import Pool

    with Pool() as pool:
        return pool.starmap(count_faces, videos)


def in_batches(videos: Sequence[Video]) -> list[Series]:
    """A call for some videos at a time, which makes a pool where it runs."""
    from discogrid.discomp import Pool

    batches = [videos[at : at + BATCH] for at in range(0, len(videos), BATCH)]
    with Pool() as pool:
        return [series for batch in pool.map(count_some, batches) for series in batch]


FORMS: dict[str, Callable[[Sequence[Video]], list[Series]]] = {
    "single": single,
    "multiprocessing": several,
    "discomp": on_the_grid,
    "batches": in_batches,
}


def plot(names: Sequence[str], found: Sequence[Series], target: Path) -> None:
    """A line for each video."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9, 4))
    axes = figure.subplots()
    for name, series in zip(names, found, strict=True):
        axes.step(
            [seconds for seconds, _ in series], [faces for _, faces in series], where="post", label=name
        )
    axes.set(xlabel="seconds", ylabel="faces", ylim=(0, None))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()
    figure.savefig(target, dpi=120, bbox_inches="tight")


def main(words: list[str]) -> int:
    """Count, write, plot. 2 when a video cannot be read."""
    parser = argparse.ArgumentParser(description="Count the faces in videos over time.")
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--form", choices=FORMS, default="single")
    parser.add_argument("--every", type=int, default=15, help="look at each n-th frame")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path(), help="the folder for faces.csv and faces.png"
    )
    asked = parser.parse_args(words)
    if asked.every < 1:
        parser.error("--every must be 1 or more")
    names = [path.name for path in asked.videos]
    try:
        videos = [(path.name, path.read_bytes(), asked.every) for path in asked.videos]
        found = FORMS[asked.form](videos)
    except (OSError, ValueError) as error:
        print(f"face_count.py: {error}", file=sys.stderr)
        return 2
    with (asked.output / "faces.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("video", "seconds", "faces"))
        for name, series in zip(names, found, strict=True):
            table.writerows((name, seconds, faces) for seconds, faces in series)
    plot(names, found, asked.output / "faces.png")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
