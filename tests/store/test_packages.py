"""Which packages a job asks for, and what is refused because it could lead elsewhere."""

from pathlib import Path

import pytest

from discogrid.errors import InputError
from discogrid.packages import (
    PACKAGES_MAX,
    active_environment,
    check_packages,
    read_requirements,
    script_packages,
)


def test_a_file_of_requirements_is_read_as_pip_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text(
        "# for the glasses\nnumpy >=2, <3   # arrays\n\nopencv-python-headless[x]==4.12.*\nav; sys_platform == 'linux'\nnumpy<3,>=2\nlong \\\n  ==1\n"
    )
    assert read_requirements(str(file)) == (
        'av; sys_platform == "linux"',
        "long==1",
        "numpy<3,>=2",
        "opencv-python-headless[x]==4.12.*",
    )


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://evil.example",
        "-e .",
        "-r other.txt",
        "./local",
        "/absolute/path.whl",
        "thing @ https://evil.example/thing.whl",
        "thing @ file:thing.whl",
        "git+https://evil.example/x.git",
        "..\\thing",
        "not a package",
        "x" * 201,
        "bell\a",
    ],
)
def test_what_could_lead_elsewhere_is_refused_with_its_line(tmp_path: Path, line: str) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text(f"numpy\n{line}\n")
    with pytest.raises(InputError, match="line 2"):
        read_requirements(str(file))
    assert check_packages(("numpy", line))
    assert check_packages(("numpy",)) == ""


def test_packages_that_are_written_otherwise_than_they_are_signed_are_refused() -> None:
    assert "written" in check_packages(("numpy  >= 2",))
    assert "at most" in check_packages(("numpy",) * (PACKAGES_MAX + 1))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gone"):
        read_requirements(str(tmp_path / "gone"))


def test_a_script_s_own_header_names_its_packages() -> None:
    source = '# /// script\n# requires-python = ">=3.11"\n# dependencies = [\n#   "rich>=13",\n#   "numpy",\n# ]\n# ///\nimport rich\n'
    assert script_packages(source, "s.py") == ("numpy", "rich>=13")
    assert script_packages("import rich\n", "s.py") == ()


@pytest.mark.parametrize(
    "header",
    [
        "# /// script\n# dependencies = [\n# ///\n",
        '# /// script\n# dependencies = "numpy"\n# ///\n',
        '# /// script\n# dependencies = ["x @ https://evil.example/x.whl"]\n# ///\n',
        "# /// script\n# a = 1\n# ///\n# /// script\n# a = 1\n# ///\n",
    ],
)
def test_a_broken_header_is_told_of(header: str) -> None:
    with pytest.raises(InputError, match=r"s\.py"):
        script_packages(header, "s.py")


def test_the_active_environment_is_pinned_and_what_nobody_else_can_get_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    for name, version in (("Some_Thing", "1.2+cu12"), ("pip", "25.0")):
        info = packages / f"{name}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path))
    assert active_environment() == ("some-thing==1.2",)
    (packages / "Some_Thing-1.2+cu12.dist-info" / "direct_url.json").write_text("{}")
    with pytest.raises(InputError, match="other machines cannot follow"):
        active_environment()
    monkeypatch.delenv("VIRTUAL_ENV")
    with pytest.raises(InputError, match="no virtual environment is active"):
        read_requirements("auto")
