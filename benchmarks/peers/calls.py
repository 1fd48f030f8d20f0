"""What the works call. Travels to the workers of every peer, so it imports nothing that a call does not need."""

import os
import subprocess
import sys
import time

NAP_S = 0.05
BLUR_S = 0.01
MODULES = ("numpy", "cv2", "dlib")  # that `seen` imports


def same(item: int) -> int:
    """Nothing."""
    return item


def process_id(seconds: float) -> int:
    """Who ran this call, after so many seconds, so that others are busy with theirs."""
    time.sleep(seconds)
    return os.getpid()


def nap(index: int) -> int:
    """NAP_S without any work."""
    time.sleep(NAP_S)
    return index


def turned(blob: bytes) -> bytes:
    """As many bytes as came, but others."""
    return blob[1:] + blob[:1]


def burnt(cpu_s: float) -> float:
    """Burn so many seconds of processor time; how long that took by the clock."""
    begun = time.perf_counter()
    until = time.thread_time() + cpu_s
    while time.thread_time() < until:
        pass
    return time.perf_counter() - begun


def script(words: tuple[str, ...]) -> None:
    """Run a script by a Python of its own."""
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)


def seen(item: int) -> int:
    """Import three heavy modules, and work with one of them for BLUR_S."""
    import cv2
    import dlib  # noqa: F401 (what it costs to have it is measured)
    import numpy as np

    cv2.setNumThreads(1)
    until = time.thread_time() + BLUR_S
    image = np.zeros((64, 64, 3), np.uint8)
    while time.thread_time() < until:
        image = np.asarray(cv2.blur(image, (3, 3)), np.uint8)
    return item


def seen_afresh(item: int) -> int:
    """The same by a Python of its own."""
    script(("-c", f"from benchmarks.peers.calls import seen; seen({item})"))
    return item
