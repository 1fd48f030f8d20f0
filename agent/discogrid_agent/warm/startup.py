"""Runs inside a box, in the start-up of a Python: loads what a script imports first, then forks a task whenever asked.

CPython imports it as `sitecustomize`, when it is ready but has run nothing. A forked task shuts itself into its own
namespaces and simply goes on: CPython then runs the script as it runs every script, with nothing of ours below it.
It knows the standard library alone, because the agent's own files are not in the box.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` would be loaded for every task
import marshal
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # every module that is loaded here would be loaded for every task
    from typing import Any, Final, NoReturn

HOOK: Final = "/tmp/discogrid-warm"  # noqa: S108 - in the file system that only this Python sees
WORK, TEMPORARY, SHARED = "/local", "/tmp", "/dev/shm"  # noqa: S108 - the box's own
REQUEST_BYTES: Final = 128 * 1024
NAMES_BYTES: Final = 64 * 1024  # of the modules that are told to the agent, or found in a script
SCOUT_S, SCOUT_BYTES = 5, 1 << 30  # for reading a script that is not trusted
TASK_ID: Final = 1000
CAPABILITIES: Final = 64  # more than there are

# One letter and one descriptor at most: all that the agent hears.
READY, UNFIT, STARTED, FAILED = b"R", b"U", b"S", b"F"


class Calls:
    """Numbers of system calls that the C library does not wrap."""

    open_tree = 428
    move_mount = 429
    create_ruleset = 444
    add_rule = 445
    restrict_self = 446

    def __init__(self, clone: int, brk: int) -> None:
        """Those that differ from machine to machine."""
        self.clone = clone
        self.brk = brk


CALLS: Final = {"x86_64": Calls(clone=56, brk=12), "aarch64": Calls(clone=220, brk=214)}

NEW_NS, NEW_IPC, NEW_USER, NEW_PID, NEW_NET = (
    0x2_0000,
    0x800_0000,
    0x1000_0000,
    0x2000_0000,
    0x4000_0000,
)
CLONE_PIDFD: Final = 0x1000
NOSUID, NODEV, NOEXEC, DETACH = 2, 4, 8, 2
TREE_CLONE, TREE_CLOEXEC, TREE_RECURSIVE, HERE, FROM_DESCRIPTOR = 1, 0o2000000, 0x8000, -100, 4
SET_DEATH_SIGNAL, SET_DUMPABLE, SET_SECCOMP, DROP_BOUNDING, SET_MM, NO_NEW_PRIVILEGES = 1, 4, 22, 24, 35, 38
MM_MAP, FILTER_MODE = 14, 2
CAPABILITY_VERSION: Final = 0x2008_0522


def launch() -> NoReturn:
    """Become the Python that waits: started exactly as the script's own, but for where it finds this file."""
    with open(f"{HOOK}/settings", "rb") as file:
        settings = marshal.loads(file.read())  # noqa: S302 - the agent wrote it
    environment = {**settings["environment"], "PYTHONPATH": HOOK}
    command = [settings["python"], settings["script"]]
    os.execve(settings["python"], command, environment)  # noqa: S606 - there is no shell here


def wait_for_tasks() -> None:
    """Return in a forked task only, which is boxed then; the Python that waits ends here."""
    del os.environ["PYTHONPATH"]
    del sys.modules["__future__"]  # which came with this file
    sys.path.remove(HOOK)
    sys.path_importer_cache.pop(HOOK, None)
    with open(f"{HOOK}/settings", "rb") as file:
        settings = marshal.loads(file.read())  # noqa: S302 - the agent wrote it
    os.chdir("/")
    hook = sys.modules.pop("sitecustomize")
    try:
        import sitecustomize  # type: ignore[import-not-found]  # noqa: F401 - the owner's own, if there is one
    except ImportError as error:
        if error.name != "sitecustomize":
            raise
        own = False
    else:
        own = True
    Waiting(settings, hook).serve()
    if not own:
        raise ImportError(name="sitecustomize")  # to `site`, that there is none


def leading_imports(source: bytes) -> list[tuple[str, tuple[str, ...]]]:
    """What a script imports before it does anything else: modules, each with the names taken from it.

    Loading these early cannot be told from loading them in time: nothing that the script does comes before them.
    """
    import ast

    found: list[tuple[str, tuple[str, ...]]] = []
    inert = (
        *(ast.Constant, ast.Name, ast.Tuple, ast.List, ast.Dict, ast.Load),
        *(ast.UnaryOp, ast.unaryop, ast.BinOp, ast.operator),
    )

    def goes_on(statements: list[ast.stmt]) -> bool:
        """Take the imports of these; whether what follows them comes first, too."""
        for statement in statements:
            match statement:
                case ast.Import(names=names):
                    found.extend((alias.name, ()) for alias in names)
                case ast.ImportFrom(module=str(module), names=names, level=0):
                    if module != "__future__":
                        found.append((module, tuple(alias.name for alias in names)))
                case ast.Try(body=body, orelse=[], finalbody=[]):
                    if not goes_on(body):
                        return False
                case ast.FunctionDef(decorator_list=[], args=ast.arguments(defaults=[], kw_defaults=[])):
                    pass
                case ast.Expr(value=ast.Constant()) | ast.Pass():
                    pass
                case (
                    ast.Assign(targets=[ast.Name()], value=value)
                    | ast.AnnAssign(target=ast.Name(), value=value)
                ) if value is not None and all(isinstance(node, inert) for node in ast.walk(value)):
                    pass
                case _:
                    return False
        return True

    goes_on(ast.parse(source).body)
    return found


class Waiting:
    """The Python that waits, and what becomes of its forks."""

    def __init__(self, settings: dict[str, Any], hook: object) -> None:
        """`settings` are the agent's; see `WarmServer`."""
        self.settings = settings
        self.hook = hook  # keeps these functions alive once they are no module any more
        before = set(sys.modules)
        # What is loaded now is for this file alone: a task does not find it loaded.
        import _socket
        import ctypes
        import gc
        import resource

        self.own = set(sys.modules) - before
        self.ctypes, self.gc, self.resource, self.socket = ctypes, gc, resource, _socket
        self.calls = CALLS[os.uname().machine]
        self.libc = ctypes.PyDLL(None, use_errno=True)  # PyDLL: a clone must not let go of the interpreter
        self.libc.syscall.restype = ctypes.c_long
        self.channel = _socket.socket(fileno=settings["channel"])
        program = ctypes.create_string_buffer(settings["filter"])
        self.program = program
        self.filter = ctypes.create_string_buffer(
            len(settings["filter"]).__floordiv__(8).to_bytes(8, "little")
            + ctypes.addressof(program).to_bytes(8, "little"),
            16,
        )
        self.memory = self.memory_map()
        self.kept: list[object] = []

    # -- the Python that waits

    def serve(self) -> None:
        """Load, say so, fork; return in a task."""
        self.show_as([b"discogrid-warm"], [])
        self.check(self.libc.prctl(SET_DEATH_SIGNAL, int(_signal.SIGKILL), 0, 0, 0), "death signal")
        with open("/proc/self/oom_score_adj", "wb", buffering=0) as adjust:
            adjust.write(b"1000")  # out of memory, the kernel takes a task before a program of the owner
        request, descriptors = self.hear()
        if not request:
            os._exit(0)
        names = self.scout(descriptors[0])
        if not self.load(names):
            self.channel.send(UNFIT)
            os._exit(0)
        loaded = sorted({name.partition(".")[0] for name in sys.modules if name not in self.own})
        told = "\n".join(loaded).encode()
        if len(told) > NAMES_BYTES:
            os._exit(0)
        self.gc.collect()
        self.gc.freeze()  # a collection in a task does not write to pages that all share
        _signal.signal(_signal.SIGCHLD, _signal.SIG_IGN)  # the kernel reaps
        self.channel.send(READY + told)
        while True:
            request, descriptors = self.hear()
            if not request:
                os._exit(0)
            alive, is_child = self.clone(NEW_NS | NEW_IPC | NEW_PID | NEW_NET)
            if is_child:
                self.first_process(marshal.loads(request), descriptors)  # noqa: S302 - the agent's
                return
            self.answer(STARTED, alive)
            for descriptor in descriptors:
                os.close(descriptor)

    def hear(self) -> tuple[bytes, list[int]]:
        """The agent's next request; nothing when the agent is gone."""
        room = 4 * 4
        said, ancillary, _, _ = self.channel.recvmsg(REQUEST_BYTES, self.socket.CMSG_SPACE(room))
        descriptors = [
            int.from_bytes(content[at : at + 4], sys.byteorder)
            for _, _, content in ancillary
            for at in range(0, len(content), 4)
        ]
        return said, descriptors

    def answer(self, word: bytes, descriptor: int) -> None:
        """Say one word to the agent, and give it a descriptor."""
        given = descriptor.to_bytes(4, sys.byteorder)
        self.channel.sendmsg([word], [(self.socket.SOL_SOCKET, self.socket.SCM_RIGHTS, given)])
        os.close(descriptor)

    def scout(self, script: int) -> list[tuple[str, tuple[str, ...]]]:
        """The script's first imports, found by a process in a box of its own: its parser meets a stranger's text."""
        near, far = os.pipe()
        alive, is_child = self.clone(NEW_NS | NEW_IPC | NEW_PID | NEW_NET)
        if is_child:
            try:
                os.close(near)
                self.channel.close()
                self.shut_in(None)
                self.limit({"CPU": SCOUT_S, "DATA": SCOUT_BYTES, "CORE": 0})
                with open(script, "rb") as file:
                    lines = [f"{name} {','.join(names)}" for name, names in leading_imports(file.read())]
                os.write(far, "\n".join(lines).encode()[:NAMES_BYTES])
            finally:
                os._exit(0)
        os.close(far)
        os.close(script)
        told = b""
        while part := os.read(near, NAMES_BYTES):
            told += part
        os.close(near)
        os.close(alive)
        os.wait()
        found = []
        for line in told.decode(errors="replace").split("\n"):
            name, _, names = line.partition(" ")
            if name and all(part.isidentifier() for part in name.split(".")):
                found.append((name, tuple(filter(None, names.split(",")))))
        return found

    def load(self, names: list[tuple[str, tuple[str, ...]]]) -> bool:
        """Import what this machine's owner has installed, in the script's order; whether forks of it are fit for use."""
        before = self.traces()
        kept = {name: sys.modules.pop(name) for name in self.own}
        try:
            for name, wanted in names:
                if name.partition(".")[0] not in sys.modules and not _is_installed(name.partition(".")[0]):
                    break  # the submitter's own, or missing: what comes after it is not first any more
                __import__(name, {}, {}, wanted, 0)
        except BaseException:  # noqa: BLE001 - whatever it is, it is the script's to see
            return False
        self.own -= set(sys.modules)
        for name in self.own:
            sys.modules[name] = kept[name]
        return self.traces() == before

    @staticmethod
    def traces() -> tuple[object, ...]:
        """What a fork would lose or share: threads, descriptors, processes, files."""
        return (
            len(os.listdir("/proc/self/task")),
            sorted(os.listdir("/proc/self/fd")),
            sorted(name for name in os.listdir("/proc") if name.isdigit()),
            sorted(os.listdir(TEMPORARY)),
            sorted(os.listdir(SHARED)),
        )

    # -- between it and a task

    def clone(self, namespaces: int) -> tuple[int, bool]:
        """Fork into new namespaces, in one step: (the child's pidfd, False), or (0, True) in the child."""
        alive = self.ctypes.c_int(-1)
        flags = self.ctypes.c_ulong(namespaces | CLONE_PIDFD | _signal.SIGCHLD)
        child = self.check(
            self.libc.syscall(self.calls.clone, flags, 0, self.ctypes.byref(alive), 0, 0), "clone"
        )
        return (alive.value, False) if child else (0, True)

    def first_process(self, request: dict[str, Any], descriptors: list[int]) -> None:
        """Build the box around this process, then fork the task; return in the task."""
        stdout, stderr, status = descriptors
        try:
            _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
            _signal.signal(_signal.SIGINT, _signal.SIG_DFL)  # of a first process the kernel ignores it
            self.channel.close()
            os.setsid()
            os.dup2(stdout, 1)
            os.dup2(stderr, 2)
            os.close(stdout)
            os.close(stderr)
            self.shut_in(request["folders"])
            self.limit(request["limits"])
            self.check(self.libc.prctl(SET_DUMPABLE, 0, 0, 0, 0), "dumpable")
            if not os.read(status, 1):  # the agent's word: until then it sets limits on this process
                os._exit(1)
            task = os.fork()
        except BaseException as error:  # noqa: BLE001 - nothing of the script may run in half a box
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(1)
        if task == 0:
            os.close(status)
            self.begin(request)
            return
        for descriptor in range(3):
            os.close(descriptor)
        while True:
            ended, code = os.wait()
            if ended == task:
                os.write(status, code.to_bytes(4, "little"))
                os._exit(0)

    def shut_in(self, folders: list[str] | None) -> None:
        """Leave nothing to see but the box, and nothing to do but what a task may."""
        check, libc = self.check, self.libc
        shown = [(HERE, WORK), (HERE, TEMPORARY)] if folders is None else []
        for folder, target in zip(folders or (), (WORK, TEMPORARY), strict=False):
            shown.append((self.tree(f"{WORK}/{folder}"), target))
        above = [(self.tree(path), path) for path in self.settings["below_temporary"]]
        if folders is not None:
            mounts = enumerate(self.settings["mounts"])
            shown += [(self.tree(f"{HOOK}/{number}"), target) for number, target in mounts]
        check(libc.umount2(WORK.encode(), DETACH), "unmount the agent's folder")
        for tree, target in shown:
            if tree == HERE:
                self.mount("tmpfs", target, NOSUID | NODEV, "size=1m")
            else:
                self.attach(tree, target)
        for tree, target in above:
            os.makedirs(target, exist_ok=True)
            self.attach(tree, target)
        self.mount("proc", "/proc", NOSUID | NODEV | NOEXEC, None)
        self.mount("tmpfs", SHARED, NOSUID | NODEV, f"size={self.settings['shared_bytes']},mode=0755")
        self.mount("devpts", "/dev/pts", NOSUID | NOEXEC, "newinstance,ptmxmode=0666,mode=620")
        os.chdir(WORK)
        self.be_nobody()
        self.landlock()
        check(libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0), "no new privileges")
        check(libc.prctl(SET_SECCOMP, FILTER_MODE, self.filter, 0, 0), "filter")

    def be_nobody(self) -> None:
        """Move into a user namespace of its own, which owns none of the others, and give up all that it grants."""
        self.check(self.libc.unshare(NEW_USER), "user namespace")
        for path, text in (
            ("/proc/self/setgroups", "deny"),
            ("/proc/self/uid_map", f"{TASK_ID} 0 1"),
            ("/proc/self/gid_map", f"{TASK_ID} 0 1"),
            ("/proc/sys/user/max_user_namespaces", "0"),
        ):
            descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            os.write(descriptor, text.encode())
            os.close(descriptor)
        for capability in range(self.settings["capabilities"]):
            self.check(self.libc.prctl(DROP_BOUNDING, capability, 0, 0, 0), "bounding set")
        header = CAPABILITY_VERSION.to_bytes(4, sys.byteorder) + bytes(4)
        self.check(self.libc.capset(header, bytes(24)), "capabilities")

    def landlock(self) -> None:
        """Put on the kernel's own list of what may be touched, where the kernel has it."""
        attributes, rules = self.settings["landlock"]
        if not attributes:
            return
        call, calls = self.libc.syscall, self.calls
        ruleset = self.check(
            call(calls.create_ruleset, attributes, self.ctypes.c_size_t(len(attributes)), 0), "Landlock"
        )
        for path, rights in rules:
            try:
                place = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except OSError:
                continue
            rule = rights.to_bytes(8, sys.byteorder) + place.to_bytes(4, sys.byteorder)
            self.check(call(calls.add_rule, ruleset, 1, rule, 0), path)
            os.close(place)
        self.check(self.libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0), "no new privileges")
        self.check(call(calls.restrict_self, ruleset, 0), "Landlock")
        os.close(ruleset)

    def limit(self, limits: dict[str, int]) -> None:
        """Set what the kernel enforces on each process; inside the user namespace, where processes are counted."""
        resource = self.resource
        for name, value in limits.items():
            kind = getattr(resource, f"RLIMIT_{name}")
            hard = resource.getrlimit(kind)[1]
            wanted = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (wanted, wanted))

    # -- the task

    def begin(self, request: dict[str, Any]) -> None:
        """Make this process what a fresh one would be, right before it runs its script."""
        self.check(self.libc.prctl(SET_DUMPABLE, 1, 0, 0, 0), "dumpable")
        command, environment = request["command"], request["environment"]
        sys.argv[1:] = command[2:]
        sys.orig_argv[2:] = command[2:]
        for name, value in request["own"].items():
            os.environ[name] = value
        self.show_as(
            [os.fsencode(part) for part in command],
            [os.fsencode(f"{name}={value}") for name, value in environment.items()],
        )
        _signal.signal(_signal.SIGINT, _signal.default_int_handler)
        for name in self.own:
            sys.modules.pop(name, None)
        _forget()

    # -- the kernel

    def check(self, answer: int, what: str) -> int:
        """The answer of a system call; OSError when it is an error."""
        if answer < 0:
            code = self.ctypes.get_errno()
            raise OSError(code, f"{what}: {os.strerror(code)}")
        return answer

    def mount(self, kind: str, target: str, flags: int, options: str | None) -> None:
        """Mount a new file system."""
        data = None if options is None else options.encode()
        name = kind.encode()
        flags_ = self.ctypes.c_ulong(flags)
        self.check(self.libc.mount(name, target.encode(), name, flags_, data), f"mount {target}")

    def tree(self, path: str) -> int:
        """A mount of `path`, attached nowhere yet."""
        flags = TREE_CLONE | TREE_CLOEXEC | TREE_RECURSIVE
        return self.check(self.libc.syscall(self.calls.open_tree, HERE, path.encode(), flags), path)

    def attach(self, tree: int, target: str) -> None:
        """Show a tree at `target`."""
        call = self.libc.syscall
        self.check(
            call(self.calls.move_mount, tree, b"", HERE, target.encode(), FROM_DESCRIPTOR), f"show {target}"
        )
        os.close(tree)

    def memory_map(self) -> list[int]:
        """Where the parts of this process lie, as `struct prctl_mm_map` wants them."""
        with open("/proc/self/stat", "rb") as file:
            fields = [0] * 4 + [int(field) for field in file.read().rpartition(b")")[2].split()[1:]]
        code, data, heap, stack = (26, 27), (45, 46), 47, 28
        return [
            *(fields[number] for number in code),
            *(fields[number] for number in data),
            *(fields[heap], 0, fields[stack]),
        ]

    def show_as(self, command: list[bytes], environment: list[bytes]) -> None:
        """What /proc says of this process: the script's command line and variables, not those of its start."""
        parts = [b"".join(part + b"\0" for part in lines) for lines in (command, environment)]
        text = self.ctypes.create_string_buffer(parts[0] + parts[1])
        begin = self.ctypes.addressof(text)
        middle, end = begin + len(parts[0]), begin + len(parts[0]) + len(parts[1])
        map_ = (self.ctypes.c_uint64 * 13)(*self.memory, begin, middle, middle, end, 0, 0xFFFF_FFFF << 32)
        size = self.ctypes.c_ulong(self.ctypes.sizeof(map_))
        address = self.ctypes.byref(map_)
        # Nothing between these two calls may move the heap's end.
        map_[5] = self.libc.syscall(self.calls.brk, 0)
        self.check(self.libc.prctl(SET_MM, MM_MAP, address, size, 0), "command line")
        self.kept.append(text)
        self.ctypes.pythonapi.Py_IncRef(self.ctypes.py_object(text))


def _is_installed(name: str) -> bool:
    """Whether a module of this name can be found, without what `importlib.util` would load for that."""
    return any(finder.find_spec(name, None) is not None for finder in sys.meta_path)


def _forget() -> None:
    """Draw afresh what a module drew when it was loaded, so that no two tasks share it. `random` does so itself."""
    if (module := sys.modules.get("numpy.random")) is not None:
        module.seed()
    if (module := sys.modules.get("multiprocessing.process")) is not None:
        module.current_process().authkey = os.urandom(32)


if __name__ == "__main__":
    launch()
elif __name__ == "sitecustomize":
    wait_for_tasks()
