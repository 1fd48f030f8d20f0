"""A job brings packages: they are installed from wheels alone, where the owner allows it, and seen by its tasks alone."""

import base64
import hashlib
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.grid.machines import Machine, until

SCRIPT = "import parcel, sys\nprint(parcel.WORD, sys.prefix != sys.base_prefix)\nparcel.write()\n"
MODULE = "WORD = 'from a wheel'\ndef write():\n    open('run-result/word', 'w').write(WORD)\n"


def wheel(folder: Path, name: str = "parcel", version: str = "1.0") -> None:
    """A wheel made by hand."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": MODULE,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip('=')},{len(text)}\n"
        for path, text in files.items()
    )
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as made:
        for path, text in {**files, f"{info}/RECORD": record + f"{info}/RECORD,,\n"}.items():
            made.writestr(path, text)


@pytest.fixture
def stocked(machine: Machine) -> Iterator[Machine]:
    """The owner's uv knows one folder of wheels and nothing else."""
    # Root's agents install as another user, who does not get into a test's closed folders.
    wheels = Path(tempfile.mkdtemp(prefix="discogrid-wheels-"))
    wheel(wheels)
    machine.environment |= {"UV_NO_INDEX": "1", "UV_FIND_LINKS": str(wheels)}
    machine.coordinate()
    yield machine
    shutil.rmtree(wheels)


def lend(machine: Machine, *options: str) -> None:
    machine.start("agent", "--name", "attic", "--slots", "2", *options)
    until(machine.live_agents)


def test_packages_of_a_file_and_of_a_header_are_there_and_only_for_that_job(stocked: Machine) -> None:
    lend(stocked, "--allow-environments")
    stocked.write("script.py", SCRIPT)
    needed = stocked.write("requirements.txt", "parcel==1.0\n")
    for number in range(3):
        stocked.write(f"in{number}", "")
    done = stocked.run("submit", "-r", needed, "script.py", "in*", "-o", "got")
    assert done.returncode == 0, done.stderr
    assert (stocked.work / "got" / "output" / "word-000").read_text() == "from a wheel"

    stocked.write("own.py", '# /// script\n# dependencies = ["parcel"]\n# ///\n' + SCRIPT)
    assert stocked.run("submit", "own.py", "-o", "own").returncode == 0

    plain = stocked.run("submit", "--any-modules", "script.py", "-o", "plain")
    assert plain.returncode == 1
    assert "No module named 'parcel'" in plain.stderr


def test_without_the_owner_s_word_nothing_is_installed_and_the_reason_is_said(stocked: Machine) -> None:
    lend(stocked)
    stocked.write("script.py", SCRIPT)
    needed = stocked.write("requirements.txt", "parcel==1.0\n")
    done = stocked.run("submit", "--no-queue", "-r", needed, "script.py")
    assert done.returncode == 4
    assert "builds no environments" in done.stderr


def test_packages_that_cannot_be_had_as_wheels_are_said(stocked: Machine) -> None:
    lend(stocked, "--allow-environments")
    stocked.write("script.py", SCRIPT)
    needed = stocked.write("requirements.txt", "parcel==2.0\n")
    job = stocked.run("submit", "-d", "-r", needed, "script.py").stdout.strip()
    until(lambda: "cannot be built" in stocked.run("why", job).stdout)
    why = stocked.run("why", job).stdout
    assert "from wheels alone" in why
    assert "parcel==2.0" in why


@pytest.mark.parametrize(
    "line", ["--index-url https://evil.example", "parcel @ file:///tmp/parcel.whl", "-e ."]
)
def test_a_file_that_leads_elsewhere_is_refused_before_anything_is_sent(stocked: Machine, line: str) -> None:
    stocked.write("script.py", SCRIPT)
    needed = stocked.write("requirements.txt", f"{line}\n")
    done = stocked.run("submit", "-r", needed, "script.py")
    assert done.returncode == 2
    assert "line 1" in done.stderr
