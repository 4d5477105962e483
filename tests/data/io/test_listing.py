"""Which files are found, in which order, and what is said if there are none."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skate.data._io.files.bundles import BundleLimits, name_of, pack
from skate.data._io.files.filesystem import FileEntry, resolve
from skate.data._io.files.listing import Listing, check_extensions, check_paths


def make(root: Path, *names: str, content: bytes = b"x") -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def names(listing: Listing) -> list[str]:
    return [listing.relative(entry.path) for entry in listing]


def test_folder_is_read_recursively_in_the_order_of_paths(tmp_path: Path) -> None:
    make(tmp_path, "b/2.csv", "b/1.csv", "a.csv", "b.csv", "b-c/x.csv", "c/d/e/f.csv")
    found = [entry.path for entry in Listing([str(tmp_path)])]
    assert found == sorted(found)
    assert len(found) == 6


def test_hidden_names_are_left_out_with_all_below(tmp_path: Path) -> None:
    make(tmp_path, "a", ".b", "_c", "_d/e", ".f/g", "h/_i", "h/j")
    assert names(Listing([str(tmp_path)])) == ["a", "h/j"]


def test_a_hidden_file_that_is_named_is_read(tmp_path: Path) -> None:
    make(tmp_path, "_a")
    assert names(Listing([str(tmp_path / "_a")])) == ["_a"]


def test_sizes_and_times_are_known(tmp_path: Path) -> None:
    make(tmp_path, "a", content=b"12345")
    [entry] = Listing([str(tmp_path)])
    assert entry.size == 5
    assert entry.mtime_ns == os.stat(tmp_path / "a").st_mtime_ns


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.csv", ["a.csv", "b.csv"]),
        ("?.csv", ["a.csv", "b.csv"]),
        ("[ab].txt", ["a.txt"]),
        ("*/x.csv", ["d/x.csv", "e/x.csv"]),
        ("**/x.csv", ["d/x.csv", "d/f/x.csv", "e/x.csv"]),
        ("**/*.csv", ["a.csv", "b.csv", "d/x.csv", "d/f/x.csv", "e/x.csv"]),
        ("d/**", ["d/f/x.csv", "d/x.csv"]),
        ("d*", ["d/f/x.csv", "d/x.csv"]),
        ("*/f/*", ["d/f/x.csv"]),
        ("_h/*.csv", ["_h/x.csv"]),
    ],
)
@pytest.mark.parametrize("remote", [False, True])
def test_globs(tmp_path: Path, pattern: str, expected: list[str], remote: bool) -> None:
    files = ["a.csv", "b.csv", "a.txt", ".c.csv", "d/x.csv", "d/f/x.csv", "e/x.csv", "_h/x.csv"]
    if remote:
        import fsspec

        filesystem = fsspec.filesystem("memory")
        root = f"memory://{tmp_path.name}"
        for name in files:
            filesystem.pipe(f"{root}/{name}", b"x")
        listing = Listing([f"{root}/{pattern}"])
        found = [entry.path.partition(tmp_path.name + "/")[2] for entry in listing]
    else:
        make(tmp_path, *files)
        found = [str(Path(entry.path).relative_to(tmp_path)) for entry in Listing([f"{tmp_path}/{pattern}"])]
    assert sorted(found) == sorted(expected)


def test_a_name_with_magic_characters_is_taken_as_it_is_if_it_exists(tmp_path: Path) -> None:
    make(tmp_path, "a[1].csv", "a1.csv")
    assert names(Listing([str(tmp_path / "a[1].csv")])) == ["a[1].csv"]


def test_missing_path_says_so_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="ignore_missing_paths=True") as caught:
        Listing([str(tmp_path / "no")])
    assert str(tmp_path / "no") in str(caught.value)
    with pytest.raises(FileNotFoundError, match="No file matches"):
        Listing([str(tmp_path / "*.csv")])


def test_missing_paths_can_be_left_out(tmp_path: Path) -> None:
    make(tmp_path, "a")
    assert names(Listing([str(tmp_path / "no"), str(tmp_path / "a")], ignore_missing_paths=True)) == ["a"]
    with pytest.raises(ValueError, match=r"No files found under \['.*no'\]. Note that listing skips names"):
        Listing([str(tmp_path / "no")], ignore_missing_paths=True)


def test_empty_folder_and_no_fitting_extension(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="listing skips names starting with '_' or '.'"):
        Listing([str(tmp_path)])
    make(tmp_path, "a.txt")
    with pytest.raises(ValueError, match=r"names that do not end with one of \.csv, \.csv\.gz"):
        Listing([str(tmp_path)], extensions=check_extensions(["csv.gz", ".CSV"]))


def test_extensions_ignore_case(tmp_path: Path) -> None:
    make(tmp_path, "a.CSV", "b.csv.gz", "c.txt")
    assert names(Listing([str(tmp_path)], extensions=check_extensions(["csv", "csv.gz"]))) == [
        "a.CSV",
        "b.csv.gz",
    ]


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    make(tmp_path, "a/x", "b/y")
    os.symlink(tmp_path / "b", tmp_path / "a" / "to_b")
    os.symlink(tmp_path, tmp_path / "a" / "upwards")
    assert names(Listing([str(tmp_path / "a")])) == ["to_b/y", "x"]


def test_pipes_are_left_out_and_broken_links_are_not(tmp_path: Path) -> None:
    make(tmp_path, "x")
    os.mkfifo(tmp_path / "pipe")
    os.symlink(tmp_path / "nowhere", tmp_path / "y")
    assert names(Listing([str(tmp_path)])) == ["x", "y"]


def test_names_that_are_no_text(tmp_path: Path) -> None:
    from skate.data._io.readers.binary import BinaryDatasource

    try:
        (tmp_path / os.fsdecode(b"caf\xe9")).write_bytes(b"x")
    except OSError:
        pytest.skip("this filesystem has no such names")
    source = BinaryDatasource(tmp_path, include_paths=True)
    [task] = pickle.loads(pickle.dumps(source.get_read_tasks()))
    [block] = task()
    assert block["path"].to_pylist() == [f"{tmp_path}/caf\ufffd"]
    assert source.fingerprint()["files"] == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_unreadable_folder(tmp_path: Path) -> None:
    make(tmp_path, "a/x")
    os.chmod(tmp_path / "a", 0)
    try:
        with pytest.raises(PermissionError, match="a"):
            Listing([str(tmp_path)])
    finally:
        os.chmod(tmp_path / "a", 0o700)


def test_only_the_first_file_is_looked_at_by_the_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, *(f"{number:04}" for number in range(1200)))
    listing = Listing([str(tmp_path)])
    assert len(listing._known) == 1
    for position, _ in enumerate(listing):
        if position == 10:
            break
    assert len(listing._known) == 501
    assert len(listing.all()) == 1200


def test_relative_paths_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "d/a")
    monkeypatch.chdir(tmp_path)
    [entry] = Listing(["d"])
    assert entry.path == str(tmp_path / "d" / "a")


def test_urls(tmp_path: Path) -> None:
    import fsspec
    import pyarrow.fs

    make(tmp_path, "a")
    assert names(Listing([f"file://{tmp_path}"])) == ["a"]
    assert names(Listing([str(tmp_path)], fsspec.filesystem("file"))) == ["a"]
    assert names(Listing([str(tmp_path)], pyarrow.fs.LocalFileSystem())) == ["a"]
    inside = pyarrow.fs.SubTreeFileSystem(str(tmp_path), pyarrow.fs.LocalFileSystem())
    [entry] = Listing(["a"], inside)
    assert entry.path == "a"
    with pytest.raises(ValueError, match="of one filesystem"):
        resolve(["memory://a", "/b"])
    with pytest.raises(ValueError, match="Pass filesystem="):
        resolve(["nonsense://a"])
    with pytest.raises(TypeError, match="filesystem must be"):
        resolve(["a"], filesystem=3)


def test_s3_urls_have_neither_scheme_nor_user(monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.fs

    monkeypatch.setattr(pyarrow.fs, "resolve_s3_region", lambda bucket: {"bucket": "us-west-2"}[bucket])
    filesystem, paths = resolve(["s3://anonymous@bucket/key/a.csv"])
    assert paths == ["bucket/key/a.csv"]
    assert filesystem.arrow().region == "us-west-2"
    assert pickle.loads(pickle.dumps(filesystem)).describe() == filesystem.describe() == "s3"


@pytest.mark.parametrize(
    ("paths", "error", "text"),
    [
        (3, TypeError, "paths must be"),
        ([], ValueError, "paths must name"),
        (["a", 3], TypeError, "paths must be"),
        ("", ValueError, "empty string"),
    ],
)
def test_wrong_paths(paths: object, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        check_paths(paths)


# ---------------------------------------------------------------------------------------------- bundles


def entries(*sizes: int) -> list[FileEntry]:
    return [FileEntry(f"/d/{number:05}", size, 0) for number, size in enumerate(sizes)]


LIMITS = BundleLimits(most_bytes=100, most_files=5, least_bytes=10)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 500), max_size=60), st.sampled_from([-1, 1, 2, 7, 40, 100]), st.booleans())
def test_every_byte_is_in_one_piece_and_in_order(sizes: list[int], parallelism: int, cut: bool) -> None:
    given_files = entries(*sizes)
    bundles = list(pack(given_files, LIMITS, may_cut=lambda entry: cut, parallelism=parallelism))
    assert all(bundles)
    position = {}
    order = []
    for bundle in bundles:
        for piece in bundle:
            assert piece.start == position.get(piece.entry.path, 0)
            position[piece.entry.path] = piece.stop
            if piece.part == 0:
                order.append(piece.entry)
    assert order == given_files
    assert all(position[entry.path] == entry.size for entry in given_files)
    if parallelism > 0 and not cut:
        assert len(bundles) == min(parallelism, len(sizes))
    if parallelism < 0:
        for bundle in bundles:
            assert len(bundle) <= 5
            assert len(bundle) == 1 or sum(piece.size for piece in bundle) <= 100


def test_few_files_make_enough_tasks() -> None:
    limits = BundleLimits(most_bytes=64 << 20, most_files=1000, least_bytes=1 << 20)
    bundles = list(pack(entries(*[1 << 20] * 128), limits, may_cut=lambda entry: False))
    assert len(bundles) == 64


def test_tiny_files_make_one_task() -> None:
    assert len(list(pack(entries(*[100] * 50), BundleLimits(), may_cut=lambda entry: True))) == 1


def test_long_listings_begin_with_small_bundles() -> None:
    """They are not read before they are packed; and a part of a thousand files would be too much to lose."""
    sizes = [len(bundle) for bundle in pack(entries(*[100] * 50_000), BundleLimits(), may_cut=bool)]
    assert sizes[0] == 64
    assert sizes[:-1] == sorted(sizes[:-1])
    assert max(sizes) == 1000
    assert len(sizes) < 200


@pytest.mark.parametrize("count", [100, 4000, 20_000])
def test_parts_that_are_recorded_are_small_parts_of_the_whole(count: int) -> None:
    files = entries(*[20_000] * count)
    sizes = [len(one) for one in pack(files, BundleLimits(), may_cut=bool, is_recorded=True)]
    assert max(sizes) <= max(count // 32, (4 << 20) // 16 // 20_000)
    assert len(sizes) < 150


def test_bundles_of_a_long_listing_come_while_it_is_read() -> None:
    taken = 0

    def many():
        nonlocal taken
        for number in range(100_000):
            taken += 1
            yield FileEntry(f"/{number:06}", 4096, 0)

    bundles = pack(many(), BundleLimits(), may_cut=lambda entry: False)
    assert len(next(bundles)) == 64
    assert taken < 5000


def test_names_of_bundles() -> None:
    whole = list(pack(entries(5, 5, 5), LIMITS, may_cut=lambda entry: False))
    assert name_of(whole[0], "a") in ("a+1", "a+2")
    parts = list(pack(entries(1000), LIMITS, may_cut=lambda entry: True))
    assert [name_of(bundle, "a") for bundle in parts] == [f"a[{number}/10]" for number in range(10)]
