"""Counts what is skipped and says it. On Debian 12, where everything can be had, a skip is a failure."""

import os
import shutil
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final

import pytest

OS_RELEASE: Final = Path("/etc/os-release")
NO_LICENCE: Final = "the lab's own footage is not on this machine; it has no licence to ship"
ONLY_ROOT: Final = "only root can do this"
NO_LANDLOCK: Final = "this kernel has no Landlock"
NO_FFMPEG: Final = "this machine has no ffmpeg, and imageio-ffmpeg is not installed"
ONE_CORE: Final = "this machine has one core"
NO_SUITE: Final = "this Python ships no tests of its own (on Debian: apt install libpython3-testsuite)"
NO_UPLINK: Final = "tasks cannot have networks here: slirp4netns or the right to open /dev/net/tun is missing"


def on_debian_12(release: str) -> bool:
    """Whether this is what os-release says."""
    said = dict(line.split("=", 1) for line in release.splitlines() if "=" in line)
    return (said.get("ID"), said.get("VERSION_ID", "").strip('"')) == ("debian", "12")


def is_failure(reason: str, release: str, *, root: bool, cores: int) -> bool:
    """Whether a test may not be skipped for this reason here."""
    if not on_debian_12(release):
        return False
    due = {
        NO_LICENCE,
        NO_SUITE,
        *([] if root else [ONLY_ROOT, NO_UPLINK]),
        *([ONE_CORE] if cores == 1 else []),
    }
    return reason.removeprefix("Skipped: ") not in due


def skip_without_uplink() -> None:
    """Skip what needs slirp4netns and its device; root has the means to get both."""
    opens = os.geteuid() == 0 or os.access("/dev/net/tun", os.R_OK | os.W_OK)
    if shutil.which("slirp4netns") is None or not opens:
        pytest.skip(NO_UPLINK)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    outcome = yield
    report = outcome.get_result()
    if report.skipped and not hasattr(report, "wasxfail") and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2]
        release = OS_RELEASE.read_text() if OS_RELEASE.exists() else ""
        if is_failure(reason, release, root=os.geteuid() == 0, cores=os.cpu_count() or 1):
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid}: nothing is skipped on Debian 12, and this was: {reason}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    terminalreporter.write_line(f"tests that were skipped: {len(skipped)}")
