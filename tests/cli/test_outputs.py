"""Names in the flat folder of outputs."""

from hypothesis import given
from hypothesis import strategies as st

from discogrid.archive import NameBook
from discogrid.outputs import flat_names, indexed_name


def test_a_name_that_one_task_wrote_stays() -> None:
    assert flat_names([(0, "a.txt"), (1, "b.txt")]) == {(0, "a.txt"): "a.txt", (1, "b.txt"): "b.txt"}


def test_a_name_that_several_wrote_gets_the_index_in_all_of_them() -> None:
    names = flat_names([(0, "result.txt"), (12, "result.txt"), (12, "own.txt")])
    assert names == {
        (0, "result.txt"): "result-000.txt",
        (12, "result.txt"): "result-012.txt",
        (12, "own.txt"): "own.txt",
    }


def test_a_name_with_an_index_that_is_taken_gets_another() -> None:
    names = flat_names([(0, "r.txt"), (1, "r.txt"), (1, "r-000.txt")])
    assert len(set(names.values())) == 3
    assert names[1, "r-000.txt"] == "r-000.txt"


def test_names_that_differ_in_case_only_are_told_apart() -> None:
    names = flat_names([(0, "A.txt"), (1, "a.txt")])
    assert sorted(names.values()) == ["A.txt", "a-001.txt"]


def test_a_file_named_like_another_tasks_folder_is_indexed() -> None:
    names = flat_names([(0, "x/1.txt"), (1, "x")])
    assert names == {(0, "x/1.txt"): "x/1.txt", (1, "x"): "x-001"}


def test_the_tasks_own_files_stay_in_the_archive() -> None:
    assert flat_names([(0, "DiscoTask.stdout.0.txt"), (0, "a")]) == {(0, "a"): "a"}


def test_the_index_stands_before_the_suffix() -> None:
    assert indexed_name("sub.d/movie.tar.gz", 3) == "sub.d/movie.tar-003.gz"
    assert indexed_name(".profile", 3) == ".profile-003"
    assert indexed_name("README", 1234) == "README-1234"


name = st.sampled_from(["a", "A", "a-000", "a-001", "a.t", "x", "x/a", "x-000/a", "é", "é"])


def test_a_long_name_stays_within_what_a_file_system_takes() -> None:
    name = "é" * 98 + ".mp4"
    names = flat_names([(0, name), (1, name)])
    assert all(len(target.encode()) <= 200 for target in names.values())
    assert names[1, name].endswith("-001.mp4")


def test_a_name_as_long_as_can_be_in_deep_folders_still_gets_a_place() -> None:
    name = "/".join(["d" * 200] * 5) + "/" + "f" * 19
    assert len(set(flat_names([(0, name), (1, name)]).values())) == 2


@given(st.sets(st.tuples(st.integers(0, 3), name)))
def test_every_output_gets_a_name_of_its_own_on_every_file_system(outputs: set[tuple[int, str]]) -> None:
    # One task's archive cannot hold names that collide: the agent refuses them.
    kept: list[tuple[int, str]] = []
    books: dict[int, NameBook] = {}
    for index, each in sorted(outputs):
        book = books.setdefault(index, NameBook())
        if not book.refusal(each):
            book.add(each)
            kept.append((index, each))
    names = flat_names(kept)
    assert set(names) == set(kept)
    book = NameBook()
    for target in names.values():
        assert book.refusal(target) is None
        book.add(target)
