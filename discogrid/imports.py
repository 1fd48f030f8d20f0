"""Which modules a script needs that do not come with Python: read from its text, never run."""

import ast
import sys
from collections.abc import Container, Iterator

SOURCE_BYTES_MAX = 1 << 20  # a longer script is not read for its imports
MODULES_MAX = 64


def needed_modules(source: bytes, beside: Container[str] = ()) -> tuple[str, ...]:
    """Top-level names that the script imports whatever happens, in the order of its lines.

    Left out is what comes with Python, what lies `beside` the script under that name, what is guarded (`try`, `if`), what
    a function imports when it is called, and all that follows a change of `sys.path`: those may be found elsewhere.
    """
    if len(source) > SOURCE_BYTES_MAX:
        return ()
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()  # it fails where it runs, and says there what is wrong
    found: dict[str, None] = {}
    for statement in tree.body:
        if _changes_path(statement):
            break
        for name in _imported(statement):
            if name not in sys.stdlib_module_names and name not in beside and name != "__future__":
                found[name] = None
    return tuple(found)[:MODULES_MAX]


def _imported(statement: ast.stmt) -> Iterator[str]:
    match statement:
        case ast.Import(names=names):
            yield from (alias.name.partition(".")[0] for alias in names)
        case ast.ImportFrom(module=str(module), level=0):
            yield module.partition(".")[0]
        case _:
            return


def _changes_path(statement: ast.stmt) -> bool:
    return any(
        isinstance(node, ast.Attribute)
        and node.attr == "path"
        and isinstance(node.value, ast.Name)
        and node.value.id == "sys"
        for node in ast.walk(statement)
        if not isinstance(statement, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef)
    )
