"""Which name each output gets in the flat `output/` folder: pure.

A name that one task wrote stays; a name that several wrote gets the task's index before its suffix in all of them.
"""

from collections import Counter
from collections.abc import Iterable

from discogrid.archive import NameBook

TASK_FILE_PREFIX = "DiscoTask."  # logs and facts about the task: they stay in its archive


def flat_names(outputs: Iterable[tuple[int, str]]) -> dict[tuple[int, str], str]:
    """For each (task index, name in its archive), the name in `output/`: unique on every file system, also in folders."""
    found = [(index, name) for index, name in outputs if not name.startswith(TASK_FILE_PREFIX)]
    times = Counter(name for _, name in found)
    single = [output for output in found if times[output[1]] == 1]
    several = [output for output in found if times[output[1]] > 1]
    book, names = NameBook(), {}
    # What cannot keep its name (a twin but for its case, or a folder of that name) is indexed as well, until it is alone.
    for output in single:
        if book.refusal(output[1]):
            several.append(output)
        else:
            book.add(output[1])
            names[output] = output[1]
    for index, name in several:
        indexed = indexed_name(name, index)
        while book.refusal(indexed):
            indexed = indexed_name(indexed, index)
        book.add(indexed)
        names[index, name] = indexed
    return names


def indexed_name(name: str, index: int) -> str:
    """`result.txt` of task 7 is `result-007.txt`; `.profile` is `.profile-007`."""
    folder, slash, last = name.rpartition("/")
    stem, dot, suffix = last.rpartition(".")
    if not stem:
        stem, dot, suffix = last, "", ""
    return f"{folder}{slash}{stem}-{index:03d}{dot}{suffix}"
