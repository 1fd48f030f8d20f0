"""One run in a real (pseudo) terminal: bytes in, bytes out, and the terminal as it was afterwards."""

import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import ioctl
from pathlib import Path

ROOT = Path(__file__).parents[2]
ANSWER_S_MAX = 30.0


class Terminal:
    def __init__(self, command: list[str], environment: dict[str, str], size: tuple[int, int]) -> None:
        self.master, slave = pty.openpty()
        ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        self.child = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            start_new_session=True,
        )
        self.seen = b""
        self.last = ""

    def text(self) -> str:
        return re.sub(
            r"\x1b(\[[0-9;?=<>]*[a-zA-Z]|[P\]].*?(\x07|\x1b\\))", "", self.seen.decode(errors="replace")
        )

    def until(self, word: str) -> None:
        """Read until the word has been shown since the last call; what else was shown until then is `last`."""
        limit = time.monotonic() + ANSWER_S_MAX
        while word not in self.text():
            assert time.monotonic() < limit, f"{word!r} never came: {self.text()[-2000:]}"
            if select.select([self.master], [], [], 0.2)[0]:
                self.seen += os.read(self.master, 65536)
        self.last = self.text()
        self.seen = b""

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def ended(self) -> int:
        limit = time.monotonic() + ANSWER_S_MAX
        while self.child.poll() is None:
            assert time.monotonic() < limit, f"still there: {self.text()[-2000:]}"
            if select.select([self.master], [], [], 0.05)[0]:
                self.seen += os.read(self.master, 65536)
        return self.child.returncode

    def close(self) -> None:
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait()
        os.close(self.master)
        os.close(self.slave)


@contextmanager
def terminal(*command: str, size: tuple[int, int] = (80, 24), **environment: str) -> Iterator[Terminal]:
    plain = {
        name: value for name, value in os.environ.items() if not name.startswith(("TEXTUAL", "DISCOGRID"))
    }
    found = Terminal([sys.executable, "-m", *command], plain | {"TERM": "xterm-256color"} | environment, size)
    try:
        yield found
    finally:
        found.close()


def test_a_dashboard_in_a_real_terminal_is_seen_steered_and_left() -> None:
    with terminal("tests.tui.fake_dashboard", "300") as screen:
        screen.until("glasses_5")
        screen.press("\r")
        screen.until("300 of 300 tasks")
        screen.press("G")
        screen.until("big1-299")
        screen.press("/split29\r")  # in one piece, as a slow line delivers them
        screen.until("10 of 300 tasks")
        screen.press("\x1b")
        screen.until("300 of 300 tasks")
        screen.press("?")
        screen.until("esc closes")
        screen.press("?")
        screen.until("big1-299")
        screen.press("q")
        assert screen.ended() == 0
        assert "\x1b[?1049l" in screen.seen.decode(errors="replace")
        assert termios.tcgetattr(screen.slave)[:4] == screen.before[:4]


def test_without_colour_everything_is_still_said() -> None:
    with terminal("tests.tui.fake_dashboard", size=(40, 12), NO_COLOR="1") as screen:
        screen.until("● working")
        screen.press("\x03")
        assert screen.ended() == 0
