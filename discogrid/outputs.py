"""Which name each output gets in the flat `output/` folder: pure.

A name that one task wrote stays; a name that several wrote gets the task's index before its suffix in all of them.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import count

from discogrid.archive import NameBook
from discogrid.archive.names import PART_BYTES_MAX

TASK_FILE_PREFIX = "DiscoTask."  # logs and facts about the task: they stay in its archive
SUFFIX_BYTES_MAX = 16  # what is longer is no suffix
INDEXED_TIMES_MAX = 3  # the index is set at most so often before a name is made up


def flat_names(outputs: Iterable[tuple[int, str]]) -> dict[tuple[int, str], str]:
    """For each (task index, name in its archive), the name in `output/`: unique on every file system, also in folders.

    What cannot keep its name although one task wrote it (its twin differs in case only, a folder has it) is indexed too.
    """
    found = [(index, name) for index, name in outputs if not name.startswith(TASK_FILE_PREFIX)]
    times = Counter(name for _, name in found)
    # The deepest first: a file can step aside for a folder of its name, a folder cannot.
    found.sort(key=lambda output: (-output[1].count("/"), times[output[1]] > 1))
    book = NameBook()
    names: dict[tuple[int, str], str] = {}
    for index, name in found:
        wishes = _wishes(name, index, keep=times[name] == 1)
        chosen = next(wish for wish in wishes if book.refusal(wish) is None)
        book.add(chosen)
        names[index, name] = chosen
    return names


def indexed_name(name: str, index: int) -> str:
    """`result.txt` of task 7 is `result-007.txt`; `.profile` is `.profile-007`. A long name loses its stem's end."""
    folder, slash, last = name.rpartition("/")
    stem, dot, suffix = last.rpartition(".")
    if not stem or len(suffix.encode()) > SUFFIX_BYTES_MAX:
        stem, dot, suffix = last, "", ""
    tail = f"-{index:03d}{dot}{suffix}"
    room = PART_BYTES_MAX - len(tail.encode())
    return f"{folder}{slash}{stem.encode()[:room].decode(errors='ignore')}{tail}"


def _wishes(name: str, index: int, *, keep: bool) -> Iterator[str]:
    """Names for an output, the best first; without end."""
    if keep:
        yield name
    for _ in range(INDEXED_TIMES_MAX):
        name = indexed_name(name, index)
        yield name
    for number in count():
        yield f"task-{index:03d}-{number}"
