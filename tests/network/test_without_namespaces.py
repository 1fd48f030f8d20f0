"""Where no hosts can be made the suite says so: a skip that is counted, or a failure where that must not be."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.network.hosts import ROOT, Network

HERE = Path(__file__).parent


@pytest.mark.parametrize(
    ("system", "said"),
    [
        ('ID=debian\nVERSION_ID="12"\n', "1 error"),
        ('ID=ubuntu\nVERSION_ID="24.04"\n', "1 skipped"),
        ("ID=arch\n", "1 skipped"),
    ],
    ids=["debian 12", "ubuntu", "arch"],
)
def test_without_namespaces_a_test_is_skipped_aloud_but_never_on_debian_12(
    network: Network, tmp_path: Path, system: str, said: str
) -> None:
    del network  # which could be made here: the twin of what follows
    release = tmp_path / "os-release"
    release.write_text(system)

    ran = subprocess.run(
        [
            *(sys.executable, HERE / "restrained.py", release),
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "--basetemp", tmp_path / "inner"),
            f"{HERE / 'test_nearby.py'}::test_who_invites_knows_the_nameplates_that_others_show",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    summary = ran.stdout.splitlines()
    assert summary[-1].startswith(said), ran.stdout + ran.stderr
    assert "cannot make hosts in namespaces here: a network of its own: [Errno 28]" in ran.stdout
    assert (ran.returncode == 0) is (said == "1 skipped")
