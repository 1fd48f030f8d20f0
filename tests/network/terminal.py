"""A terminal of a host, at which somebody sits."""

import contextlib
import os
import pty
import subprocess

from tests.network.hosts import Host


class Terminal:
    """A command of this project on a terminal of its own."""

    def __init__(self, host: Host, *command: str) -> None:
        self._keyboard, other = pty.openpty()
        self.process = subprocess.Popen(
            host.command(*command),
            cwd=host.work,
            env=host.environment,
            stdin=other,
            stdout=other,
            stderr=other,
        )
        os.close(other)
        os.set_blocking(self._keyboard, False)
        host.processes.append(self.process)
        self._said = b""

    def says(self, what: str) -> bool:
        """Whether it has said this so far."""
        with contextlib.suppress(OSError):  # nothing new; or all has ended
            while more := os.read(self._keyboard, 65536):
                self._said += more
        return what in self._said.decode(errors="replace")

    def lines(self) -> list[str]:
        """All that it has said so far."""
        self.says("")
        return self._said.decode(errors="replace").replace("\r", "").splitlines()

    def type(self, text: str) -> None:
        os.write(self._keyboard, text.encode() + b"\n")

    def wait(self, seconds: float) -> int:
        """Its exit code."""
        code = self.process.wait(seconds)
        self.says("")
        return code

    def close(self) -> None:
        os.close(self._keyboard)
