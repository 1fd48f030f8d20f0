"""Takes the place of the package `discomp` of the Dis.co service: `from discogrid.discomp import Pool, Process`.

Its Pool had `map` and `starmap`, its Process `start` and `join`; here both have the rest, too. A job's results were files
in a folder, which nothing makes here: what a function of a pool returns is what comes back.
"""

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Any, Unpack

from discogrid.pool import Pool as _Pool
from discogrid.process import CALLS_MAX
from discogrid.process import Process as _Process
from discogrid.remote.keywords import CallKeywords, PlaceKeywords, call_options
from discogrid.remote.shared import shared

__all__ = ["JobStatus", "Pool", "Process"]


class JobStatus(StrEnum):
    """What `job_status` says, in the old package's own words: it, too, called a job done that had failed."""

    CREATED = "JobStatus.created"  # and not started
    STARTED = "JobStatus.started"
    DONE = "JobStatus.done"  # `exitcode` says how


class Process(_Process):
    """A job of one task: `name` is the job's, and `target(*args)` what it runs."""

    def __init__(
        self,
        name: str,
        target: Callable[..., object],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        daemon: bool | None = None,
        **asked: Unpack[PlaceKeywords],
    ) -> None:
        """The arguments of the old package, then those of `discogrid.Process`. ValueError as the old package raised it."""
        if not isinstance(name, str):
            raise ValueError(f"the name of a job must be a text, not {name!r}")  # noqa: TRY004 (as it was)
        if not callable(target):
            raise ValueError(f"the target must be a function, not {target!r}")  # noqa: TRY004
        if not isinstance(args, tuple):
            raise ValueError(  # noqa: TRY004
                f"args must be a tuple, not {args!r}; one argument is written with a comma: args=(3,)"
            )
        super().__init__(None, target, name, args, kwargs, daemon=daemon, **asked)
        named: CallKeywords = {**asked, "name": name}
        self._options = call_options(named, calls_max=CALLS_MAX)

    def start(self) -> None:
        """Start it; a second time nothing happens, as it was in the old package."""
        if self._course is None:
            super().start()

    def join(self, timeout: float | None = None) -> None:
        """Wait until it has ended, or for `timeout` seconds; not at all when it was not started, as in the old package."""
        if self._course is not None:
            super().join(timeout)

    @property
    def job_name(self) -> str:
        """The job's name."""
        return self.name

    @property
    def job_id(self) -> str:
        """The job's id, as `discogrid ls` lists it; processes of one name are one job. The job is made when there is none."""
        assert self._options is not None
        return shared(self._options).job

    @property
    def job_status(self) -> str:
        """One of JobStatus."""
        if self._course is None:
            return JobStatus.CREATED
        return JobStatus.STARTED if self._course.exit_code is None else JobStatus.DONE


class Pool(_Pool):
    """The pool of `discogrid`, which also says which job its calls are."""

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: object = None,
        **asked: Unpack[CallKeywords],
    ) -> None:
        """See `discogrid.Pool`."""
        super().__init__(processes, initializer, initargs, maxtasksperchild, context, **asked)
        self._job_name = asked.get("name", "")

    @property
    def job_name(self) -> str:
        """The job's name, where the pool was given one."""
        return self._job_name

    @property
    def job_id(self) -> str:
        """The job's id, as `discogrid ls` lists it."""
        return self._dispatcher.job
