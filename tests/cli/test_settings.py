"""Settings, where they come from, and what wins."""

from pathlib import Path

import pytest

from discogrid.errors import UsageError
from discogrid.settings import KNOWN, load, variable_of


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's own folder, and a project of this user."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (tmp_path / "project" / "deep").mkdir(parents=True)
    monkeypatch.setenv("DISCOGRID_HOME", str(home))
    return home


def values(tmp_path: Path, environment: dict[str, str] | None = None) -> dict[str, str]:
    found = load(environment or {}, tmp_path / "project" / "deep")
    return {key: setting.value for key, setting in found.items()}


def test_nothing_is_set_at_first(tmp_path: Path) -> None:
    assert values(tmp_path) == {}


def test_a_variable_wins_over_the_project_and_that_over_the_user(tmp_path: Path, home: Path) -> None:
    (home / "settings.toml").write_text('color = "never"\n[submit]\ncpus = 2\nretries = 2\n')
    (tmp_path / "project" / "discogrid.toml").write_text("[submit]\ncpus = 3\nretries = 3\n")
    found = load({"DISCOGRID_SUBMIT_CPUS": "4"}, tmp_path / "project" / "deep")
    assert {key: setting.value for key, setting in found.items()} == {
        "color": "never",
        "submit.cpus": "4",
        "submit.retries": "3",
    }
    assert found["submit.cpus"].origin == "DISCOGRID_SUBMIT_CPUS"
    assert found["submit.retries"].origin == str(tmp_path / "project" / "discogrid.toml")
    assert found["color"].origin == str(home / "settings.toml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[submit]\ncpu = 2\n", "'submit.cpus'"),
        ("colour = 'auto'\n", "'color'"),
        ("whatever = 1\n", "Settings: "),
        ("[submit]\ncpus = 'many'\n", "submit.cpus"),
        ("[submit]\nmemory = '2Q'\n", "is no size"),
        ("[submit]\ntimeout = 'soon'\n", "is no duration"),
        ("color = 'blue'\n", "one of auto, always, never"),
        ("not toml", "cannot be read"),
    ],
)
def test_a_wrong_file_is_an_error_that_names_it(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "project" / "discogrid.toml"
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        values(tmp_path)
    assert str(file) in str(caught.value)
    assert said in str(caught.value)


def test_a_wrong_variable_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="DISCOGRID_SUBMIT_CPUS"):
        values(tmp_path, {"DISCOGRID_SUBMIT_CPUS": "many"})


def test_a_file_left_by_somebody_else_above_the_project_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "project" / "discogrid.toml").write_text("whatever = 1\n")
    monkeypatch.setattr("os.getuid", lambda: 4242)
    monkeypatch.setattr("discogrid.settings.TRUSTED_OWNERS", frozenset())
    assert values(tmp_path) == {}


def test_every_key_has_a_variable_of_its_own() -> None:
    assert variable_of("submit.min-sandbox") == "DISCOGRID_SUBMIT_MIN_SANDBOX"
    assert len({variable_of(key) for key in KNOWN}) == len(KNOWN)
