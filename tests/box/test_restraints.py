"""Landlock and the system call filter by themselves, put on by a process that then tries what they are for."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from discogrid_agent.sandbox import landlock
from discogrid_agent.sandbox.landlock import Rules
from tests.skips import NO_LANDLOCK

RESTRAINED = Path(__file__).with_name("restrained.py")
ROOT = Path(__file__).parents[2]
NO_FAMILY, NOT_PERMITTED = "Address family not supported by protocol", "Operation not permitted"
NO_PROTOCOL = "Protocol not supported"
INTERNET = ("internet", "internet 6", "datagrams")
BEYOND_PLAIN = ("raw packets", "raw packets 6", "echoes", "multipath")


def tried(kind: str, given: dict[str, str]) -> dict[str, str]:
    path = os.pathsep.join(map(str, (ROOT, ROOT / "agent")))
    ran = subprocess.run(
        [sys.executable, RESTRAINED, kind, json.dumps(given)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    answers: dict[str, str] = json.loads(ran.stdout)
    return answers


@pytest.fixture
def given(tmp_path: Path) -> Iterator[dict[str, str]]:
    for name in ("shown", "own", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_text("content")
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(f"\0discogrid-restrained-{os.getpid()}")
        abstract.listen()
        yield {
            **{name: str(tmp_path / name) for name in ("shown", "own", "other")},
            "port": str(tcp.getsockname()[1]),
            "abstract": f"discogrid-restrained-{os.getpid()}",
        }


def test_without_landlock_everything_is_done(given: dict[str, str]) -> None:
    assert set(tried("nothing", given).values()) == {"done"}


def test_landlock_leaves_what_its_rules_name(given: dict[str, str]) -> None:
    version = landlock.abi()
    if version == 0:
        pytest.skip(NO_LANDLOCK)
    answers = tried("landlock", given)
    since = {
        "truncate shown": 3,
        "connect": 4,
        "connect to an abstract socket": 6,
        "signal the one who started it": 6,
    }
    refused = {name for name, answer in answers.items() if answer != "done"}
    assert refused == {
        "write shown",
        "make in shown",
        "read other",
        "list other",
        "write other",
        "link other into own",
        *(name for name, first in since.items() if version >= first),
    }
    assert Path(given["other"], "a").read_text() == "content"
    assert Path(given["shown"], "a").read_text() == "content"


def test_each_version_handles_what_it_knows() -> None:
    sizes = [len(landlock.attributes(version, network=False)) for version in range(1, 8)]
    assert sizes == [8, 8, 8, 16, 16, 24, 24]
    assert landlock.file_rights(1) == 0x1FFF
    assert landlock.file_rights(2) == 0x3FFF
    assert landlock.file_rights(4) == 0x7FFF
    assert landlock.file_rights(7) == 0xFFFF
    assert landlock.attributes(7, network=True)[8:16] == bytes(8)


def test_a_rule_grants_no_right_that_its_version_does_not_handle() -> None:
    paths = (Path("/a"),)
    rules = Rules(read_only=paths, read_write=paths, devices=paths, terminals=paths, sockets=False)
    for version in range(1, 8):
        handled = landlock.file_rights(version)
        assert all(rights & ~handled == 0 for _, rights in landlock.grants(rules, version))
    rights = [right for _, right in landlock.grants(rules, 7)]
    assert not any(
        right & (landlock.MAKE_CHAR | landlock.MAKE_BLOCK | landlock.MAKE_SOCK) for right in rights
    )
    assert [bool(right & landlock.IOCTL_DEV) for right in rights] == [False, False, False, True]


def test_a_kernel_without_landlock_gives_no_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    assert landlock.ruleset(Rules()) is None


def test_a_list_that_cannot_be_put_on_says_so() -> None:
    with pytest.raises(OSError, match="Landlock"):
        landlock._checked(landlock._system_call(landlock.RESTRICT_SELF, -1, 0))


@pytest.mark.parametrize(
    ("kind", "refused"),
    [
        ("none", dict.fromkeys((*INTERNET, *BEYOND_PLAIN, "netlink", "vsock"), NO_FAMILY)),
        (
            "confined",
            {
                **dict.fromkeys(
                    ("unix", "pair", *INTERNET, *BEYOND_PLAIN, "netlink", "vsock"),
                    NO_FAMILY,
                ),
                "limit the one who started it": NOT_PERMITTED,
            },
        ),
        (
            "network",
            {"netlink": NO_FAMILY, "vsock": NO_FAMILY, **dict.fromkeys(BEYOND_PLAIN, NO_PROTOCOL)},
        ),
    ],
)
def test_the_filter_leaves_the_families_it_names(
    given: dict[str, str], kind: str, refused: dict[str, str]
) -> None:
    answers = tried(kind, given)
    if not socket.has_ipv6:
        answers.pop("internet 6")
    assert {name: answer for name, answer in answers.items() if answer != "done"} == refused
