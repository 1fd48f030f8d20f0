"""One tree of errors; a class's docstring is the sentence its user reads.

DiscogridError
├── UsageError               the command or a setting is wrong            exit 2
├── InputError               an input, script or asset cannot be used     exit 2
├── GridError                no grid answers, or it refuses us            exit 3
│   ├── HandshakeRefused     the other side does not accept this node
│   └── QuotaExceeded        the grid's owner allows this member no more at a time
├── NoAgentFits              a task can never be placed                   exit 4
├── VersionMismatch          here and there run versions that do not fit  exit 4
├── WaitTimeout              a wait took longer than its limit            exit 5
├── IntegrityError           a digest, signature or archive is wrong      exit 7
│   ├── SignatureRefused     an envelope was not signed by who it claims
│   ├── PairingFailed        two machines could not be paired; nothing was joined
│   └── HostileArchive       an archive would write where it must not
├── CallLost                 a Python call has no result of its own
│   ├── WorkerLost           the process that ran it died of it, or under it
│   ├── TaskTimeout          it ran longer than it may
│   └── OutOfMemory          it took more memory than it may
├── UntrustedResult          what a call returned could run code here, and its agent is not trusted with that
├── WireError                a peer sent bytes that are no message
├── BlobError                a blob cannot be stored, found or moved
│   └── BlobRefusal          the other side does not serve or take it, at least not now
├── SandboxError             the box cannot be built on this machine
├── KeyFileError             a key file is missing, damaged or readable by others
└── MissingProgram           a program or extra this command needs is absent
"""

from enum import IntEnum
from inspect import cleandoc


class ExitCode(IntEnum):
    """What a discogrid command's exit code says."""

    SUCCEEDED = 0
    TASK_FAILED = 1
    USAGE = 2
    NO_GRID = 3
    UNPLACEABLE = 4
    WAIT_TIMED_OUT = 5
    CANCELLED = 6
    INTEGRITY = 7
    INTERRUPTED = 130


class DiscogridError(Exception):
    """Something went wrong in discogrid."""

    exit_code = ExitCode.TASK_FAILED

    def __init__(self, what: str = "", why: str = "", fix: str = "") -> None:
        """Say *what* happened, *why* it probably did and what to do about it (*fix*); the docstring fills a gap.

        All of it is in the args: one that comes from another machine is made of these, without running anything of it.
        """
        what = what or cleandoc(type(self).__doc__ or "")
        super().__init__(*((what, why, fix) if fix else (what, why) if why else (what,)))

    @property
    def what(self) -> str:
        """What happened."""
        return self._part(0)

    @property
    def why(self) -> str:
        """Why it probably did; empty when nothing is known."""
        return self._part(1)

    @property
    def fix(self) -> str:
        """What to do about it; empty when there is nothing to do."""
        return self._part(2)

    def __str__(self) -> str:
        """All that is known, one sentence after the other."""
        return "\n".join(part for part in (self.what, self.why, self.fix) if part)

    def _part(self, index: int) -> str:
        return str(self.args[index]) if len(self.args) > index else ""


class UsageError(DiscogridError):
    """The command cannot be understood; see its --help."""

    exit_code = ExitCode.USAGE


class InputError(DiscogridError):
    """An input cannot be used; nothing was submitted."""

    exit_code = ExitCode.USAGE


class GridError(DiscogridError):
    """No grid is in reach; start one with `discogrid up`, or run on this machine alone with --local."""

    exit_code = ExitCode.NO_GRID


class HandshakeRefused(GridError):
    """The grid does not accept this node."""


class JobOver(GridError):
    """The job has ended, and takes nothing more."""


class JobGone(JobOver):
    """The coordinator was started again, and keeps no Python calls: what is left of them makes another job."""


class QuotaExceeded(GridError):
    """The grid's owner allows this member no more at a time."""


class NoAgentFits(DiscogridError):
    """No agent of this grid can ever run the task."""

    exit_code = ExitCode.UNPLACEABLE


class VersionMismatch(NoAgentFits):
    """No agent has the Python that the program runs in, which alone can read its functions."""


class WaitTimeout(DiscogridError):
    """The job did not end in time; it goes on, and `discogrid wait` can be called again."""

    exit_code = ExitCode.WAIT_TIMED_OUT


class IntegrityError(DiscogridError):
    """Bytes are not what they were promised to be; they were not used."""

    exit_code = ExitCode.INTEGRITY


class SignatureRefused(IntegrityError):
    """The signature does not belong to a member of this grid; nothing was run or unpacked."""


class PairingFailed(IntegrityError):
    """Two machines could not be paired; nothing was joined."""


class HostileArchive(IntegrityError):
    """The archive would write outside its folder or is built to exhaust this machine; nothing was unpacked."""


class CallLost(DiscogridError):
    """The call has no result."""


class WorkerLost(CallLost):
    """The process that ran the call has died; the calls before and after it are not concerned."""

    def __init__(self, what: str = "", why: str = "", fix: str = "", exit_status: int | None = None) -> None:
        """`exit_status` is its exit code, or minus the signal that ended it; None where nobody knows."""
        super().__init__(what, why, fix)
        if exit_status is not None:
            self.args: tuple[object, ...] = (self.what, why, fix, exit_status)

    @property
    def exit_status(self) -> int | None:
        """Its exit code, or minus the signal that ended it, as subprocess has it; None where nobody knows."""
        status = self.args[3] if len(self.args) > 3 else None
        return status if isinstance(status, int) else None


class TaskTimeout(CallLost):
    """The call ran longer than it may, and was ended."""


class OutOfMemory(CallLost):
    """The call took more memory than it may, and was ended."""


class UntrustedResult(DiscogridError):
    """What a call returned could run code here, and the agent that ran it is not trusted with that."""


class WireError(DiscogridError):
    """A peer sent bytes that are not a message of this protocol; the message was dropped."""


class BlobError(DiscogridError):
    """A blob could not be stored, found or moved."""


class BlobRefusal(BlobError):
    """The other side does not serve or take the blob, at least not now."""


class SandboxError(DiscogridError):
    """The box cannot be built on this machine; `discogrid doctor` names the fixing command."""


class KeyFileError(DiscogridError):
    """A key file is missing, damaged, or readable by other users of this machine."""

    exit_code = ExitCode.USAGE


class MissingProgram(DiscogridError):
    """A program or an optional part that this command needs is not installed."""

    exit_code = ExitCode.USAGE
