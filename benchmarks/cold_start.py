"""How long `discogrid --help` takes beyond a bare interpreter: python benchmarks/cold_start.py.

The promise is less than 80 ms. Runs take turns, so that a busy machine disturbs both alike; medians are compared.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

RUNS = 30
PROMISE_MS = 80.0


def milliseconds(command: list[str]) -> float:
    """Wall time of one run."""
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - began) * 1000


def main() -> int:
    """Print the medians; 1 when the promise is broken."""
    script = str(Path(sys.executable).with_name("discogrid"))
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "discogrid --help": [script, "--help"],
        "discogrid submit --help": [script, "submit", "--help"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(RUNS):
        for name, command in commands.items():
            times[name].append(milliseconds(command))
    medians = {name: statistics.median(each) for name, each in times.items()}
    for name, median in medians.items():
        print(f"{name:<24} {median:6.1f} ms")
    over = medians["discogrid --help"] - medians["python -c pass"]
    print(f"the help costs {over:.1f} ms over a bare interpreter (promise: {PROMISE_MS:.0f})")
    return int(over >= PROMISE_MS)


if __name__ == "__main__":
    sys.exit(main())
