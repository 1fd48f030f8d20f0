"""What must be true at the end of a run: every task one result, the right one, and nothing left behind."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.grid import Grid, Node
from tests.grid.machines import processes_with

SCRIPT = """
import hashlib, sys, time
from pathlib import Path
content = Path(sys.argv[1]).read_bytes()
time.sleep(float(content.split()[0]))
asset = Path("/assets/asset").read_bytes()
Path("run-result", sys.argv[1]).write_text(hashlib.blake2b(content + asset).hexdigest())
print("done", sys.argv[1])
"""
ASSET_BYTES = 3 << 20  # does not ride along with a message
JOURNAL = """
import json, sqlite3, sys
journal = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)
sound = journal.execute("pragma integrity_check").fetchone()[0]
won = journal.execute("select idx, count(*) from results where state = 'done' group by idx").fetchall()
print(json.dumps([sound, won]))
"""


def expected(inputs: Sequence[bytes], asset: bytes) -> dict[str, str]:
    """What an undisturbed run writes."""
    return {name_of(n): hashlib.blake2b(content + asset).hexdigest() for n, content in enumerate(inputs)}


def name_of(index: int) -> str:
    """Of a task's input, and of its output."""
    return f"in{index:03}.txt"


def check_results(folder: Path, wanted: dict[str, str]) -> None:
    """Every task has one result, equal to that of an undisturbed run."""
    got = {file.name: file.read_text() for file in (folder / "output").iterdir()}
    assert got == wanted, "results are lost, doubled or wrong"
    assert len(list((folder / "results").glob("*.zip"))) == len(wanted), "archives are lost or doubled"


def check_tasks(tasks: Sequence[dict[str, object]], count: int) -> None:
    """What the grid tells of them."""
    assert [task["index"] for task in tasks] == list(range(count)), "tasks are lost or doubled"
    assert {task["state"] for task in tasks} == {"done"}, "a task has not ended well"


def check_journal(hub: Node, count: int) -> None:
    """One winner each; with nobody running."""
    [journal] = hub.shell(f"find {hub.host.home}/coordinator -name '*.sqlite'").split()
    sound, won = json.loads(hub.host.run_python(f"import sys; sys.argv[1:] = [{journal!r}]" + JOURNAL).stdout)
    assert sound == "ok", "the journal is damaged"
    assert sorted(won) == [[index, 1] for index in range(count)], "a task has not one winner"


def check_leftovers(grid: Grid, mark: str) -> None:
    """Nothing runs and nothing lies about; with nobody running."""
    assert not processes_with(mark), "a task outlives the grid"
    for node in grid.nodes():
        assert not list(node.host.children()), f"a process is left on {node.name}"
    assert not (left := leftovers(grid)), f"left: {left}"


def leftovers(grid: Grid, *, files: bool = False) -> str:
    """What lies about of tasks and blobs on their way; agents that run keep some folders, but no files in them."""
    places = " -o ".join(f"-path '*/{folder}/*'" for folder in ("attempts", "archives", "incoming"))
    return "".join(
        node.shell(f"find {node.host.home} \\( {places} \\) {'-type f' if files else ''} -print")
        for node in grid.nodes()
    )
