"""The file in which a machine's owner lays down the rules: read at the start, and again whenever it has changed."""

import logging
from dataclasses import dataclass
from pathlib import Path

from discogrid.errors import UsageError
from discogrid_agent.rules import RULES_BYTES_MAX, Rule, Rules, parse_rules

CHECK_S = 1.0  # between two looks at the file; a change counts when it has been there at two of them

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Stamp:
    """What tells one content of a file from another without reading it."""

    inode: int
    size: int
    changed_ns: int


class RulesFile:
    """The rules in force. A file that breaks while the agent runs changes nothing, and is told of."""

    def __init__(self, path: Path, unsaid: Rule) -> None:
        """Read the file; UsageError when it is broken. Without one, `unsaid` holds for everybody."""
        self._path = path
        self._unsaid = unsaid
        self._stamp = self._seen = _stamp(path)
        self.rules = self._read() if self._stamp else Rules(unsaid)

    def look(self) -> bool:
        """Whether there are other rules in force since the last look. To be called every CHECK_S."""
        stamp = _stamp(self._path)
        settled = stamp == self._seen  # an editor may be writing it just now
        self._seen = stamp
        if stamp == self._stamp or not settled:
            return False
        self._stamp = stamp
        if stamp is None:
            log.error("the rules %s are gone; those before stay in force. %s", self._path, _GONE_FIX)
            return False
        try:
            rules = self._read()
        except UsageError as error:
            log.error("%s The rules before stay in force. %s", error.what, error.fix)  # noqa: TRY400
            return False
        changed = rules != self.rules
        self.rules = rules
        if changed:
            log.info("the rules in %s have changed and are in force", self._path)
        return changed

    def _read(self) -> Rules:
        try:
            with self._path.open("rb") as file:
                raw = file.read(RULES_BYTES_MAX + 1)
            if len(raw) > RULES_BYTES_MAX:
                what, fix = f"they are larger than {RULES_BYTES_MAX} bytes", "Shorten the file."
            else:
                return parse_rules(raw.decode(), self._unsaid)
        except UnicodeDecodeError as error:
            line = raw[: error.start].count(b"\n") + 1
            what, fix = f"line {line} is no UTF-8", "Save the file as UTF-8."
        except OSError as error:
            what, fix = str(error), f"Run: chmod u+r {self._path}"
        except UsageError as error:
            what, fix = error.what, error.fix
        raise UsageError(
            f"the rules for this machine in {self._path} cannot be used: {what}.",
            why="Nobody's tasks run here under rules that may not be the ones you meant.",
            fix=fix,
        )


_GONE_FIX = "To go without rules, leave an empty file there or start the agent again."


def _stamp(path: Path) -> _Stamp | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    except OSError:
        return _Stamp(0, 0, 0)  # reading it will say what is wrong
    return _Stamp(status.st_ino, status.st_size, status.st_mtime_ns)
