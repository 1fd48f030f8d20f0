"""What `submit --dry-run` shows: everything that would be signed and sent."""

import tempfile
from pathlib import Path

from discogrid.bundle import Manifest
from discogrid.cli.connect import GridChoice
from discogrid.cli.console import Console
from discogrid.cli.look import plural
from discogrid.cli.output import Column
from discogrid.cli.sending import sign
from discogrid.cli.text import printable
from discogrid.quantities import duration_text, size_text
from discogrid.submission import Submission

ROWS_SHOWN = 20


def tell_plan(console: Console, choice: GridChoice, submission: Submission, *, as_json: bool) -> None:
    """Read and sign as for a real submission, but send nothing."""
    grid = choice.known()
    with tempfile.TemporaryDirectory(prefix="discogrid-") as scratch:
        prepared = sign(console, grid, submission, Path(scratch))
    manifest = prepared.job.manifest
    if as_json:
        console.output.json(
            "plan", {"grid": grid.name, "bytes": prepared.bytes, **_document(submission, manifest)}
        )
        return
    line, needs, limits = console.output.line, manifest.requirements, manifest.limits
    where = "this machine" if grid.own else f"grid {printable(grid.name)}"
    line(f"job      {printable(manifest.name)} on {where}")
    line(f"script   {printable(str(submission.script))}")
    each = f"{plural(needs.cpus, 'slot')}, at most {duration_text(limits.seconds)} and {size_text(limits.memory_bytes)}"
    line(f"tasks    {manifest.tasks}, each {each}")
    line(f"to send  at most {size_text(prepared.bytes)}")
    for constant in submission.constants:
        line(f"const    {printable(str(constant))}")
    for source, target in submission.mounts:
        line(f"mount    {printable(str(source))} at {printable(target)}")
    if manifest.arguments:
        line(f"args     {' '.join(map(printable, manifest.arguments))}")
    if submission.inputs:
        line()
        rows = [(f"{index:03d}", str(path)) for index, path in enumerate(submission.inputs[:ROWS_SHOWN])]
        console.output.table((Column("TASK"), Column("INPUT", gives_way=True)), rows)
    if len(submission.inputs) > ROWS_SHOWN:
        console.narration.say(f"{ROWS_SHOWN} of {len(submission.inputs)} tasks; --json lists all.")


def _document(submission: Submission, manifest: Manifest) -> dict[str, object]:
    needs, limits = manifest.requirements, manifest.limits
    inputs: list[str | None] = [str(path) for path in submission.inputs] or [None]
    return {
        "name": manifest.name,
        "script": str(submission.script),
        "tasks": [{"index": index, "input": path} for index, path in enumerate(inputs)],
        "constants": [str(path) for path in submission.constants],
        "mounts": [{"source": str(source), "target": target} for source, target in submission.mounts],
        "arguments": list(manifest.arguments),
        "environment": manifest.environment,
        "requirements": {
            "cpus": needs.cpus,
            "memory_bytes": needs.memory_bytes,
            "gpus": needs.gpus,
            "needs": list(needs.needs),
            "sandbox": needs.sandbox.value,
            "network": needs.network,
        },
        "limits": {"seconds": limits.seconds, "memory_bytes": limits.memory_bytes},
        "retries": manifest.retries,
        "priority": manifest.priority,
    }
