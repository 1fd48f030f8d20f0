"""Turns what a user wants to run into a signed job: digests, Merkle leaves, manifest."""

import os
import secrets
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from discogrid import merkle
from discogrid.archive import pack_tree
from discogrid.blobs import digest_of
from discogrid.bundle import (
    PACKAGES_SINCE,
    TASKS_MAX,
    Job,
    Leaf,
    Manifest,
    check_base_name,
    encode_leaf,
    seal_job,
    task_key,
)
from discogrid.errors import InputError
from discogrid.grid import Grid
from discogrid.imports import needed_modules
from discogrid.mounts import check_mount_target
from discogrid.packages import REQUIREMENTS_BYTES_MAX, script_packages
from discogrid.run_times import run_times_of
from discogrid.types import ENVIRONMENT_CAPABILITY, Digest, FileRef, Limits, Mount, Requirements

VALID_S = 7 * 86400.0
CONSTANTS_MAX = 1000
MOUNTS_MAX = 64
ARGUMENTS_BYTES_MAX = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What a user wants to run: one script over every input, or once when there is none."""

    script: Path
    inputs: Sequence[Path] = ()
    name: str = ""
    constants: Sequence[Path] = ()
    mounts: Sequence[tuple[Path, str]] = ()  # (source, absolute target)
    arguments: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    requirements: Requirements = Requirements()
    limits: Limits = Limits()
    retries: int = 1
    priority: int = 0
    repeatable: bool = True  # a task may run twice at a time, and only one result counts
    packages: Sequence[str] = ()  # of an environment of its own
    run_times: Mapping[str, float] = field(default_factory=dict)  # seconds, by an input's path or name
    imports_needed: bool = True  # whether an agent must have what the script imports


@dataclass(frozen=True, slots=True)
class Prepared:
    """A signed job, ready to be sent: `files` says where each blob lies on this machine."""

    job: Job
    leaves: list[bytes]
    files: dict[Digest, Path]
    sizes: dict[Digest, int]
    run_times: dict[str, float] = field(default_factory=dict)  # seconds of each task, where they are known

    def refs(self) -> Iterator[FileRef]:
        """Every file of the job, by content."""
        for digest, path in self.files.items():
            yield FileRef(path.name, digest, self.sizes[digest])

    @property
    def bytes(self) -> int:
        """What may have to be uploaded."""
        return sum(self.sizes.values())


def prepare(
    submission: Submission,
    grid: Grid,
    scratch: Path,
    now: float,
    on_file: Callable[[Path], None] = lambda _: None,
) -> Prepared:
    """Read, digest and sign; mount trees are packed into `scratch`. InputError names the first file that cannot be used.

    `now` is in seconds since 1970; `on_file` is told of each file before it is read.
    """
    files: dict[Digest, Path] = {}
    sizes: dict[Digest, int] = {}

    def take(path: Path, role: str) -> FileRef:
        on_file(path)
        reference = _reference(path, role)
        files[reference.digest] = path
        sizes[reference.digest] = reference.size
        return reference

    if len(submission.inputs) > TASKS_MAX:
        raise InputError(
            f"{len(submission.inputs)} inputs are more than the {TASKS_MAX} that one job may have",
            fix="Submit them as several jobs.",
        )
    script = take(submission.script, "script")
    constants = tuple(take(path, "constant") for path in submission.constants[: CONSTANTS_MAX + 1])
    _check_together(script, constants)
    mounts = tuple(
        Mount(target, _tree(source, target, scratch / f"mount-{number}.zip", files, sizes))
        for number, (source, target) in enumerate(submission.mounts)
    )
    taken = {script.name, *(constant.name for constant in constants)}
    packages = tuple(submission.packages) or _header(submission.script)
    leaves = []
    run_times: dict[str, float] = {}
    expected = run_times_of(submission.inputs, submission.run_times)
    for index, path in enumerate(submission.inputs):
        reference = take(path, "input")
        if reference.name in taken:
            raise InputError(
                f"the input {path} has the name of the script or of a constant; both cannot lie in one folder",
                fix="Rename one of them.",
            )
        leaves.append(encode_leaf(Leaf(index, reference)))
        if expected[index]:
            run_times[task_key(index, reference)] = expected[index]
    if not submission.inputs:
        leaves.append(encode_leaf(Leaf(0, None)))
    manifest = Manifest(
        grid=grid.roster.grid,
        audience=grid.roster.coordinator().id,
        nonce=secrets.token_bytes(16),
        issued=now,
        expires=now + VALID_S,
        submitter=grid.identity.id,
        name=submission.name or submission.script.stem,
        script=script,
        constants=constants,
        mounts=mounts,
        arguments=tuple(submission.arguments),
        environment=dict(submission.environment),
        packages=packages,
        limits=submission.limits,
        requirements=_requirements(submission, taken, packages),
        retries=submission.retries,
        priority=submission.priority,
        repeatable=submission.repeatable,
        tasks=len(leaves),
        root=merkle.Tree([merkle.leaf_hash(leaf) for leaf in leaves]).root,
    )
    return Prepared(seal_job(manifest, grid.identity), leaves, files, sizes, run_times)


def _header(script: Path) -> tuple[str, ...]:
    """The packages that a script itself asks for (PEP 723)."""
    if script.suffix != ".py":
        return ()
    with script.open(encoding="utf-8", errors="replace") as source:
        return script_packages(source.read(REQUIREMENTS_BYTES_MAX), script.name)


def _requirements(submission: Submission, beside: set[str], packages: Sequence[str]) -> Requirements:
    """Those of the submission, with the modules that the script imports; files `beside` it may be among them."""
    asked = submission.requirements
    if packages:  # which brings what is imported
        return replace(
            asked, needs=tuple(dict.fromkeys((*asked.needs, ENVIRONMENT_CAPABILITY))), protocol=PACKAGES_SINCE
        )
    python = submission.script.suffix == ".py" and "PYTHONPATH" not in submission.environment
    if not (submission.imports_needed and python):
        return asked
    own = {name.partition(".")[0] for name in beside}
    modules = needed_modules(submission.script.read_bytes(), own)
    return replace(asked, needs=tuple(dict.fromkeys((*asked.needs, *modules))))


def _reference(path: Path, role: str) -> FileRef:
    """The file's name, digest and size; InputError says why it cannot be used."""
    if (reason := check_base_name(path.name)) is not None:
        raise InputError(f"the {role} {os.fspath(path)!r} cannot be used: {reason}")
    try:
        path.name.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"the name of the {role} {os.fspath(path)!r} is not UTF-8",
            fix="Rename it; other machines could not.",
        ) from None
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise InputError(
                f"the {role} {path} is a folder",
                fix="Name its files (quote a pattern such as 'folder/*'), or show a whole folder with --mount.",
            )
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"the {role} {path} is not a regular file")
        return FileRef(path.name, digest_of(path), status.st_size)
    except FileNotFoundError:
        raise InputError(
            f"the {role} {path} does not exist", fix="Look at its spelling and this folder."
        ) from None
    except OSError as error:
        raise InputError(f"the {role} {path} cannot be read: {error.strerror}") from None


def _tree(
    source: Path, target: str, packed: Path, files: dict[Digest, Path], sizes: dict[Digest, int]
) -> FileRef:
    if (reason := check_mount_target(target)) is not None:
        raise InputError(f"nothing can be mounted at {target!r}: {reason}")
    if not source.is_dir():
        raise InputError(f"the folder to mount, {source}, does not exist or is no folder")
    sealed = pack_tree(source, packed)
    files[sealed.digest] = packed
    sizes[sealed.digest] = sealed.size
    return FileRef(packed.name, sealed.digest, sealed.size)


def _check_together(script: FileRef, constants: Sequence[FileRef]) -> None:
    if len(constants) > CONSTANTS_MAX:
        raise InputError(
            f"more than {CONSTANTS_MAX} constants", fix="Put them into a folder and use --mount."
        )
    names = [script.name, *(constant.name for constant in constants)]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two files are called {name!r}; both cannot lie in the task's folder")
