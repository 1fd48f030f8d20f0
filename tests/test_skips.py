"""A skip is said and counted; on Debian 12, it is a failure."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests import skips
from tests.skips import NO_LICENCE, NO_UPLINK, ONE_CORE, ONLY_ROOT, is_failure

DEBIAN_12 = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\nID=debian\n'
ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("reason", "root", "cores", "failure"),
    [
        ("the strict box does not work here", False, 2, True),
        (f"Skipped: {NO_LICENCE}", True, 2, False),
        (f"Skipped: {ONLY_ROOT}", False, 2, False),
        (ONLY_ROOT, True, 2, True),
        (NO_UPLINK, False, 2, False),
        (NO_UPLINK, True, 2, True),
        (ONE_CORE, False, 1, False),
        (ONE_CORE, False, 2, True),
    ],
)
def test_debian_12_has_all_but_what_cannot_be_had(reason: str, root: bool, cores: int, failure: bool) -> None:
    assert is_failure(reason, DEBIAN_12, root=root, cores=cores) is failure


@pytest.mark.parametrize("release", ["", "ID=fedora\nVERSION_ID=12\n", 'ID=debian\nVERSION_ID="13"\n'])
def test_elsewhere_a_skip_is_a_skip(release: str) -> None:
    assert not is_failure("the strict box does not work here", release, root=True, cores=2)


@pytest.mark.parametrize(
    ("release", "said"),
    [
        (DEBIAN_12, "nothing is skipped on Debian 12, and this was: Skipped: no box"),
        ("", "tests that were skipped: 1"),
    ],
)
def test_a_test_whose_box_does_not_work(tmp_path: Path, release: str, said: str) -> None:
    (tmp_path / "os-release").write_text(release)
    (tmp_path / "conftest.py").write_text(
        "from pathlib import Path\n"
        "from tests import skips\n"
        "from tests.skips import pytest_runtest_makereport, pytest_terminal_summary\n"
        f"skips.OS_RELEASE = Path({str(tmp_path / 'os-release')!r})\n"
    )
    (tmp_path / "test_it.py").write_text(
        "import pytest\n@pytest.fixture\ndef box(): pytest.skip('no box')\ndef test_it(box): pass\n"
    )
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"),
            *("-c", "/dev/null", "--rootdir", tmp_path, tmp_path),
        ],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said in ran.stdout, ran.stdout + ran.stderr
    assert (ran.returncode != 0) is bool(release)


def test_this_machine_has_said_what_it_is() -> None:
    assert Path("/etc/os-release") == skips.OS_RELEASE
