"""Makes the /etc that tasks see: what programs need to start, and nothing of the owner's.

It is a folder of copies, so that one mount shows it; `programs` in it is the first folder of a task's PATH.
"""

import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

TASK_ID: Final = 1000  # user and group id inside the box
HOST_NAME: Final = "task"
PROGRAMS: Final = "discogrid/bin"  # below /etc

# Read by loaders and libraries on behalf of every program; readable by everyone, and about nobody.
_COPIED: Final = ("alternatives", "fonts", "ld.so.cache", "localtime", "mime.types", "os-release")
_COPIED_ONLINE: Final = (
    *("protocols", "services", "ssl/certs", "ssl/openssl.cnf"),
    *("pki/ca-trust/extracted", "pki/tls/certs", "pki/tls/cert.pem", "pki/tls/openssl.cnf"),
)
_SERVICES: Final = "passwd: files\ngroup: files\nhosts: {hosts}\n"
_WRITTEN: Final = {
    "group": f"root:x:0:\ntask:x:{TASK_ID}:\nnogroup:x:65534:\n",
    "hostname": f"{HOST_NAME}\n",
    "hosts": f"127.0.0.1 localhost {HOST_NAME}\n",
    "nsswitch.conf": _SERVICES.format(hosts="files"),
    "passwd": "root:x:0:0:root:/nonexistent:/usr/sbin/nologin\n"
    f"task:x:{TASK_ID}:{TASK_ID}:task:/tmp:/bin/sh\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
}
_WRITTEN_ONLINE: Final = {"nsswitch.conf": _SERVICES.format(hosts="files dns")}


def make_system_files(
    folder: Path, programs: dict[str, Path], system: Path = Path("/etc"), *, resolvers: Iterable[str] = ()
) -> None:
    """Fill `folder` afresh; `programs` are linked into its PATH folder by name.

    `resolvers`: addresses that tell names on the network; with them come the authorities that prove who answers.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    folder.chmod(0o755)  # whatever the agent's umask: the task's user is another one when the agent is root
    servers = "".join(f"nameserver {address}\n" for address in resolvers)
    online = _COPIED_ONLINE if servers else ()
    for name in [*_COPIED, *online, *sorted(path.name for path in system.glob("python3*"))]:
        for above in reversed((folder / name).relative_to(folder).parents[:-1]):
            (folder / above).mkdir(mode=0o755, exist_ok=True)
        _copy_public(system / name, folder / name)
    written = _WRITTEN | (_WRITTEN_ONLINE | {"resolv.conf": servers} if servers else {})
    for name, text in written.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o644)
    path_folder = folder / PROGRAMS
    for made in (path_folder.parent, path_folder):
        made.mkdir()
        made.chmod(0o755)
    for name, program in programs.items():
        (path_folder / name).symlink_to(program)


def _copy_public(source: Path, target: Path) -> None:
    """A file, link or folder as it is, without anything that not everyone may read."""
    try:
        mode = source.lstat().st_mode
        if stat.S_ISLNK(mode) and os.readlink(source).startswith(("/usr/", "../usr/")):
            target.symlink_to(os.readlink(source))
            return
        mode = source.stat().st_mode
        if not mode & stat.S_IROTH:
            return
        if stat.S_ISREG(mode):
            shutil.copyfile(source, target)
            target.chmod(0o644)
        elif stat.S_ISDIR(mode):
            target.mkdir()
            target.chmod(0o755)
            for entry in sorted(source.iterdir()):
                if entry.is_symlink():
                    (target / entry.name).symlink_to(os.readlink(entry))
                else:
                    _copy_public(entry, target / entry.name)
    except FileNotFoundError:
        return  # not on every system
