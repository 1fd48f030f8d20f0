"""Runs of a real grid in trouble, from seeds."""

import argparse
import shutil
import sys
import tempfile
import traceback
from pathlib import Path

from tests.chaos.plan import plan_of
from tests.chaos.run import play


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, help="play this one, and tell its troubles as they come")
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--first-seed", type=int, default=0)
    asked = parser.parse_args()
    seeds = [asked.seed] if asked.seed is not None else range(asked.first_seed, asked.first_seed + asked.runs)
    failed: list[int] = []
    for seed in seeds:
        plan = plan_of(seed)
        scratch = Path(tempfile.mkdtemp(prefix=f"chaos-{seed}-"))
        try:
            took = play(plan, scratch, print if asked.seed is not None else lambda _: None)
        except Exception:  # noqa: BLE001 - whatever a seed brings to light is to be told, and the others still run
            failed.append(seed)
            traceback.print_exc(limit=-4, file=sys.stdout)
            print(
                f"seed {seed} fails; again with: python -m tests.chaos --seed {seed}",
                *map(str, plan.faults),
                sep="\n    ",
            )
            print(f"its homes and logs: {scratch}", flush=True)
        else:
            shutil.rmtree(scratch, ignore_errors=True)
            what = ", ".join(f"{fault.what} {fault.where}".rstrip() for fault in plan.faults)
            print(f"seed {seed}: {len(plan.tasks)} tasks in {took:.1f} s through {what}", flush=True)
    print(f"{len(list(seeds))} runs, {len(failed)} failed" + (f": {failed}" if failed else ""))
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
