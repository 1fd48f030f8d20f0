"""The program itself: help, errors, exit codes, start-up."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from discogrid import __version__
from discogrid.cli.main import EXIT_TEXTS, run, told_error
from discogrid.cli.table import COMMANDS
from discogrid.errors import DiscogridError, ExitCode, GridError, InputError
from tests.cli.conftest import SCRIPT

HEAVY = {
    "asyncio",
    "zmq",
    "msgspec",
    "cryptography",
    "nacl",
    "textual",
    "rich",
    "cv2",
    "numpy",
    "zeroconf",
    "discogrid.client",
}
MODULES_MAX = 60  # that the help may import beyond a bare interpreter and click; 45 when this was written


def modules_of(statement: str) -> set[str]:
    """What a fresh interpreter has imported after a statement."""
    code = f"import sys\n{statement}\nprint('\\n'.join(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISCOGRID_HOME", str(tmp_path / "home"))


def test_every_row_of_the_table_leads_to_a_command() -> None:
    for name, row in COMMANDS.items():
        module, _, function = row.target.partition(":")
        command = getattr(importlib.import_module(module), function)
        assert isinstance(command, click.Command), name
        assert command.help, name


def test_the_help_names_every_command_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    said = capsys.readouterr().out
    for name, row in COMMANDS.items():
        assert f"  {name} " in said
        assert row.help.split()[-1] in said
    assert set(EXIT_TEXTS) == set(ExitCode)
    assert all(text in said for text in EXIT_TEXTS.values())


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name, "--help"]) == 0
    assert f"discogrid {name}" in capsys.readouterr().out


def test_the_help_imports_what_it_shows_and_nothing_else() -> None:
    bare = modules_of("import click")
    helped = modules_of("from discogrid.cli.main import run\nassert run(['--help']) == 0")
    assert not helped & HEAVY
    assert len(helped - bare) < MODULES_MAX, sorted(helped - bare)


def test_importing_the_library_imports_nothing_heavy() -> None:
    assert not modules_of("import discogrid") & {"textual", "rich", "cv2", "numpy", "zeroconf", "click"}


def test_a_client_needs_neither_pictures_nor_the_dashboard() -> None:
    imported = modules_of("import discogrid.client, discogrid.cli.submit")
    assert not imported & {"textual", "rich", "cv2", "numpy", "zeroconf", "av"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sumbit"], "Did you mean 'submit'?"),
        (["jobsummary"], "'jobSummary'"),
        (["xyzzy"], "`discogrid --help` lists the commands"),
        (["--verison"], "--version"),
        (["ls", "--jsno"], "--json"),
        (["config", "pth"], "path"),
        (["completion", "tcsh"], "'bash', 'zsh', 'fish'"),
    ],
)
def test_a_mistyped_word_gets_the_nearest_name(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == ExitCode.USAGE
    heard = capsys.readouterr()
    assert said in heard.err
    assert heard.out == ""


def test_both_commands_are_installed() -> None:
    for name in ("discogrid", "disco"):
        done = subprocess.run(
            [SCRIPT.with_name(name), "--version"], capture_output=True, text=True, check=True
        )
        assert done.stdout == f"discogrid {__version__}\n"


def test_a_full_disk_behind_stdout_is_told() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this machine has no /dev/full")
    with open("/dev/full", "w") as full:
        done = subprocess.run([SCRIPT, "--help"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: No space left on device")


def test_a_reader_that_left_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([SCRIPT, "--help"], stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_fault_of_ours_says_so_and_keeps_its_traceback_for_debug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_arguments: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("discogrid.cli.config.load", broken)
    assert run(["config", "show"]) == 1
    said = capsys.readouterr().err
    assert "error: ZeroDivisionError: oops" in said
    assert "Traceback" not in said
    assert run(["config", "show", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_the_first_of_several_errors_is_told() -> None:
    group = ExceptionGroup("", [GridError("away"), InputError("wrong")])
    assert isinstance(told_error(group), GridError)


def test_an_error_of_the_system_names_its_file() -> None:
    told = told_error(PermissionError(13, "Permission denied", "/etc/x"))
    assert type(told) is DiscogridError
    assert (told.what, told.why) == ("Permission denied", "The file is '/etc/x'.")


def test_a_completion_script_and_a_completion(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", "bash"]) == 0
    assert "_DISCOGRID_COMPLETE=bash_complete" in capsys.readouterr().out
    done = subprocess.run(
        [SCRIPT],
        env={
            **os.environ,
            "_DISCOGRID_COMPLETE": "bash_complete",
            "COMP_WORDS": "discogrid sub",
            "COMP_CWORD": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "plain,submit\n"
