import platform
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.network.hosts import Network, WorldRefused


@pytest.fixture(scope="session")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A host on a network can be made here; otherwise every test that needs one is skipped, and says why."""
    try:
        with Network(tmp_path_factory.mktemp("trial")) as network:
            network.host("trial")
    except WorldRefused as refused:
        why = f"this user cannot make hosts in namespaces here: {refused}"
        if promised():
            pytest.fail(why)
        pytest.skip(why)


def promised() -> bool:
    """Whether this system gives namespaces to everybody: that they are missing there is a fault, nothing to skip for."""
    system = platform.freedesktop_os_release()
    return (system.get("ID"), system.get("VERSION_ID")) == ("debian", "12")


@pytest.fixture
def network(hosts: None, tmp_path: Path) -> Iterator[Network]:
    """A switch, and no hosts yet."""
    with Network(tmp_path) as network:
        yield network
