"""What an agent lets onto its shelf: only jobs and tasks that it has proven itself."""

import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discogrid import merkle
from discogrid.archive import pack_tree
from discogrid.blobs import digest_of
from discogrid.bundle import Job, Leaf, check_tasks, decode_leaf, encode_leaf, job_id_candidates
from discogrid.errors import SignatureRefused, WireError
from discogrid.types import Digest, FileRef, JobId, Limits, Mount, NodeId, Requirements, Run, SandboxLevel
from discogrid.wire import pack_parts
from discogrid_agent.shelf import Shelf
from tests.trust.forge import HOUR, NOW, cast, leaves_of, ref

GRID = cast()
COUNT = 11
LEAVES = leaves_of(*(f"{index}.mp4" for index in range(COUNT)))
TREE = merkle.Tree([merkle.leaf_hash(leaf) for leaf in LEAVES])
JOB = GRID.job(LEAVES)
ID = job_id_candidates(JOB.digest)[0]


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return new_shelf(tmp_path)


def new_shelf(
    folder: Path,
    owner: Limits | None = None,
    box: SandboxLevel = SandboxLevel.STRICT,
    me: NodeId = GRID.agent.id,
) -> Shelf:
    return Shelf(folder / "mounts", GRID.keeper, GRID.coordinator.id, owner or Limits(), box, me)


def parcel(start: int, stop: int, job: JobId = ID) -> tuple[list[Run], bytes, bytes]:
    proof = pack_parts(TREE.prove(start, stop))
    return [Run(job, start, stop, 1, 7)], pack_parts(LEAVES[start:stop]), pack_parts([proof])


# Single tasks against the root.


@given(st.integers(0, COUNT - 1), st.integers(1, COUNT))
def test_every_range_is_proven(start: int, length: int) -> None:
    stop = min(COUNT, start + length)
    tasks = check_tasks(JOB, start, LEAVES[start:stop], TREE.prove(start, stop))
    assert [task.index for task in tasks] == list(range(start, stop))


@given(st.data())
@settings(max_examples=300)
def test_whatever_is_changed_is_refused(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, COUNT - 1))
    stop = data.draw(st.integers(start + 1, COUNT))
    leaves, proof = LEAVES[start:stop], TREE.prove(start, stop)
    at = start
    match data.draw(st.sampled_from(["leaf", "proof", "place", "fewer", "more", "swapped"])):
        case "leaf":
            place = data.draw(st.integers(0, len(leaves) - 1))
            leaf = bytearray(leaves[place])
            leaf[data.draw(st.integers(0, len(leaf) - 1))] ^= data.draw(st.integers(1, 255))
            leaves = [*leaves[:place], bytes(leaf), *leaves[place + 1 :]]
        case "proof":
            if not proof:
                return
            place = data.draw(st.integers(0, len(proof) - 1))
            proof = [*proof[:place], bytes(32), *proof[place + 1 :]]
        case "place":
            at = data.draw(st.integers(-2, COUNT + 2).filter(lambda other: other != start))
        case "fewer":
            leaves = leaves[1:]
        case "more":
            leaves = [*leaves, leaves[-1]]
        case "swapped":
            if len(leaves) < 2:
                return
            leaves = leaves[::-1]
    with pytest.raises(SignatureRefused):
        check_tasks(JOB, at, leaves, proof)


def test_a_leaf_that_says_another_index_than_its_place_is_refused() -> None:
    """The submitter itself may have signed nonsense."""
    leaves = [encode_leaf(Leaf(index, None)) for index in (0, 2, 1)]
    job = GRID.job(leaves)
    tree = merkle.Tree([merkle.leaf_hash(leaf) for leaf in leaves])
    check_tasks(job, 0, leaves[:1], tree.prove(0, 1))
    with pytest.raises(SignatureRefused, match="another place"):
        check_tasks(job, 1, leaves[1:2], tree.prove(1, 2))


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", "", "run-result"])
def test_an_input_that_would_leave_the_task_s_folder_is_refused(name: str) -> None:
    leaves = [encode_leaf(Leaf(0, ref(name)))]
    with pytest.raises(SignatureRefused, match="cannot be used"):
        check_tasks(GRID.job(leaves), 0, leaves, [])


@given(st.binary(max_size=100))
def test_a_leaf_of_random_bytes_is_a_leaf_or_refused(raw: bytes) -> None:
    try:
        assert isinstance(decode_leaf(raw), Leaf)
    except SignatureRefused:
        assert raw is not None


def test_a_leaf_of_more_than_a_kilobyte_is_refused() -> None:
    file = FileRef("x" * 255, Digest("blake3:" + "a" * 64), 2**53)
    assert decode_leaf(encode_leaf(Leaf(99_999, file))).input == file
    with pytest.raises(SignatureRefused, match="read"):
        decode_leaf(encode_leaf(Leaf(0, FileRef("x" * 1200, file.digest, 1))))


# The shelf.


def checked(shelf: Shelf, runs: list[Run], leaves: bytes, proofs: bytes, now: float = NOW) -> list[Any]:
    return list(shelf.check(runs, leaves, proofs, now).values())


def test_tasks_of_a_verified_job_are_taken(shelf: Shelf) -> None:
    owned = shelf.put(ID, JOB.envelope, NOW)
    assert owned.job == JOB
    assert [[task.index for task in tasks] for tasks in checked(shelf, *parcel(2, 5))] == [[2, 3, 4]]


def test_tasks_of_an_unknown_job_are_refused(shelf: Shelf) -> None:
    [refused] = checked(shelf, *parcel(2, 5))
    assert isinstance(refused, SignatureRefused)


def test_one_false_run_takes_no_true_one_with_it(shelf: Shelf) -> None:
    shelf.put(ID, JOB.envelope, NOW)
    runs = [Run(ID, 0, 2, 1, 7), Run(ID, 4, 5, 1, 7), Run(ID, 9, 11, 1, 7)]
    proofs = [TREE.prove(0, 2), [bytes(32)], TREE.prove(9, 11)]
    answers = checked(
        shelf, runs, pack_parts([*LEAVES[0:2], LEAVES[4], *LEAVES[9:11]]), pack_parts(map(pack_parts, proofs))
    )
    assert [isinstance(answer, list) for answer in answers] == [True, False, True]


def test_a_proof_that_is_no_packed_list_refuses_its_run_alone(shelf: Shelf) -> None:
    shelf.put(ID, JOB.envelope, NOW)
    runs = [Run(ID, 0, 1, 1, 7), Run(ID, 1, 2, 1, 7)]
    proofs = pack_parts([b"\xc1", pack_parts(TREE.prove(1, 2))])
    answers = checked(shelf, runs, pack_parts(LEAVES[0:2]), proofs)
    assert [isinstance(answer, list) for answer in answers] == [False, True]


def test_another_job_s_tasks_and_proof_are_refused(shelf: Shelf) -> None:
    other_leaves = leaves_of(*(f"other-{index}.mp4" for index in range(COUNT)))
    other = GRID.job(other_leaves)
    id_ = job_id_candidates(other.digest)[0]
    shelf.put(id_, other.envelope, NOW)
    [refused] = checked(shelf, *parcel(0, 3, id_))
    assert isinstance(refused, SignatureRefused)


@pytest.mark.parametrize(("start", "stop"), [(5, 5), (5, 3), (-1, 1), (0, 2**62), (2**70, 2**70 + 1)])
def test_a_run_that_cannot_be_is_refused_at_once(shelf: Shelf, start: int, stop: int) -> None:
    shelf.put(ID, JOB.envelope, NOW)
    with pytest.raises(WireError):
        shelf.check([Run(ID, start, stop, 1, 7)], pack_parts(LEAVES[:1]), pack_parts([pack_parts([])]), NOW)


@pytest.mark.parametrize(
    ("leaves", "proofs"), [(3, 1), (1, 1), (0, 1), (2, 0)], ids=["more", "fewer", "none", "no proof"]
)
def test_runs_tasks_and_proofs_that_do_not_add_up_are_refused(shelf: Shelf, leaves: int, proofs: int) -> None:
    shelf.put(ID, JOB.envelope, NOW)
    proof = pack_parts(TREE.prove(0, 2))
    with pytest.raises(WireError):
        shelf.check([Run(ID, 0, 2, 1, 7)], pack_parts(LEAVES[:leaves]), pack_parts([proof] * proofs), NOW)


def test_a_job_that_expires_on_the_shelf_runs_no_more(shelf: Shelf) -> None:
    shelf.put(ID, JOB.envelope, NOW)
    [tasks] = checked(shelf, *parcel(0, 1), now=NOW + HOUR)
    assert isinstance(tasks, list)
    [refused] = checked(shelf, *parcel(1, 2), now=NOW + HOUR + 1)
    assert isinstance(refused, SignatureRefused)
    assert "expired" in refused.what


def _signed_elsewhere(**other: Any) -> bytes:
    return GRID.job(LEAVES, **other).envelope


@pytest.mark.parametrize(
    "envelope",
    [
        JOB.envelope[:-1] + bytes([JOB.envelope[-1] ^ 1]),
        JOB.envelope.replace(b"script.py", b"Script.py"),
        _signed_elsewhere(grid=GRID.agent.id),
        _signed_elsewhere(audience=GRID.agent.id),
        _signed_elsewhere(issued=NOW - 3 * HOUR, expires=NOW - HOUR),
        b"",
    ],
    ids=["signature", "script", "grid", "audience", "expired", "nothing"],
)
def test_a_job_that_was_not_signed_for_this_agent_is_not_put_here(shelf: Shelf, envelope: bytes) -> None:
    with pytest.raises(SignatureRefused):
        shelf.put(ID, envelope, NOW)
    assert shelf.get(ID) is None


def test_a_job_under_another_s_name_is_refused(shelf: Shelf) -> None:
    with pytest.raises(SignatureRefused, match="name"):
        shelf.put(JobId("aaaa" if not ID.startswith("aaaa") else "bbbb"), JOB.envelope, NOW)


def _twins() -> tuple[Job, Job, JobId]:
    """Two jobs whose digests begin alike: a thousand jobs are enough to find such."""
    seen: dict[JobId, Job] = {}
    for number in range(20_000):
        job = GRID.job(LEAVES, nonce=number.to_bytes(16))
        id_ = job_id_candidates(job.digest)[0]
        if id_ in seen:
            return seen[id_], job, id_
        seen[id_] = job
    raise AssertionError("no two of 20,000 digests share 20 bits")


def test_a_second_job_does_not_take_the_place_of_one_with_the_same_id(shelf: Shelf) -> None:
    """Else tasks that were proven for one would run with the script of the other."""
    first, second, id_ = _twins()
    shelf.put(id_, first.envelope, NOW)
    shelf.put(id_, first.envelope, NOW)
    with pytest.raises(SignatureRefused, match="two jobs"):
        shelf.put(id_, second.envelope, NOW)
    owned = shelf.get(id_)
    assert owned is not None
    assert owned.job == first
    shelf.drop(id_)
    shelf.put(id_, second.envelope, NOW)


def test_a_job_s_limits_are_under_the_owner_s(tmp_path: Path) -> None:
    owner = Limits(seconds=10, memory_bytes=100, processes=5, disk_bytes=50, output_files=3)
    job = GRID.job(
        LEAVES, limits=Limits(seconds=99, memory_bytes=50, processes=99, disk_bytes=99, output_files=99)
    )
    limits = new_shelf(tmp_path, owner).put(job_id_candidates(job.digest)[0], job.envelope, NOW).limits
    assert (limits.seconds, limits.memory_bytes, limits.processes) == (10, 50, 5)
    assert (limits.disk_bytes, limits.output_files) == (50, 3)


@pytest.mark.parametrize("target", ["/", "/usr/lib", "/etc", "relative", "/a/../etc", "/proc/x", "/a//b"])
def test_a_mount_that_would_hide_the_system_is_refused(shelf: Shelf, target: str) -> None:
    job = GRID.job(LEAVES, mounts=(Mount(target, ref("mount-0.zip")),))
    with pytest.raises(SignatureRefused):
        shelf.put(job_id_candidates(job.digest)[0], job.envelope, NOW)


@pytest.mark.parametrize("box", SandboxLevel)
def test_a_job_is_not_run_in_a_weaker_box_than_it_demands(tmp_path: Path, box: SandboxLevel) -> None:
    shelf = new_shelf(tmp_path, box=box, me=GRID.submitter.id)
    for needed in SandboxLevel:
        job = GRID.job(LEAVES, requirements=Requirements(sandbox=needed))
        id_ = job_id_candidates(job.digest)[0]
        if needed.rank <= box.rank:
            shelf.put(id_, job.envelope, NOW)
        else:
            with pytest.raises(SignatureRefused, match="box"):
                shelf.put(id_, job.envelope, NOW)


def test_first_tasks_that_start_together_find_the_mount_whole(shelf: Shelf, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(300):
        (source / str(number)).write_bytes(bytes([number % 256]) * 2000)
    packed = tmp_path / "mount-0.zip"
    sealed = pack_tree(source, packed)
    assert sealed.digest == digest_of(packed)
    job = GRID.job(
        LEAVES, mounts=(Mount("/home/codelab", FileRef("mount-0.zip", sealed.digest, sealed.size)),)
    )
    owned = shelf.put(job_id_candidates(job.digest)[0], job.envelope, NOW)
    starting = threading.Barrier(6)
    found: list[Any] = []

    def first_task() -> None:
        starting.wait()
        try:
            [(target, tree)] = shelf.mounts(owned, lambda _: packed)
            found.append((target, len(list(tree.iterdir()))))
        except Exception as error:  # noqa: BLE001 - whatever it is, the test is to show it
            found.append(error)

    threads = [threading.Thread(target=first_task) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [("/home/codelab", 300)] * 6
    shelf.drop(owned.id)
    assert not list((tmp_path / "mounts").iterdir())


def test_without_a_box_an_agent_runs_what_its_own_key_has_signed_alone(tmp_path: Path) -> None:
    weak = GRID.job(LEAVES, requirements=Requirements(sandbox=SandboxLevel.NONE))
    id_ = job_id_candidates(weak.digest)[0]
    with pytest.raises(SignatureRefused, match="no box"):
        new_shelf(tmp_path / "another's", box=SandboxLevel.NONE).put(id_, weak.envelope, NOW)
    new_shelf(tmp_path / "confined", box=SandboxLevel.CONFINED).put(id_, weak.envelope, NOW)
    new_shelf(tmp_path / "own", box=SandboxLevel.NONE, me=GRID.submitter.id).put(id_, weak.envelope, NOW)
