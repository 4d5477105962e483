"""Programs start in odd surroundings: flags of Python, variables, folders, descriptors that are closed."""

from __future__ import annotations

import os
import subprocess
import sys
import zipapp
from collections.abc import Callable
from pathlib import Path

import pytest

PROGRAM = """
import os, sys
import skate
from skate.util.multiprocessing import Pool

def add(x, y=1):
    return x + y

@skate.remote
def task(x):
    print("in a task:", x, "\\u00e9")
    return x + 1, sys.flags.optimize, sys.flags.bytes_warning, os.environ.get("ODD", "")

@skate.remote
class Counter:
    def __init__(self):
        self.n = 0

    def up(self):
        self.n += 1
        return self.n

@skate.remote
def numbers(count):
    yield from range(count)

skate.init(num_cpus=2)
large = skate.put(b"x" * 300_000)
got = skate.get([task.remote(1), Counter.remote().up.remote()])
assert got[0] == (2, sys.flags.optimize, sys.flags.bytes_warning, os.environ.get("ODD", "")), got
assert got[1] == 1
assert len(skate.get(large)) == 300_000
assert [skate.get(ref) for ref in numbers.options(num_returns="streaming").remote(3)] == [0, 1, 2]
with Pool(1) as pool:
    assert pool.map(add, range(3)) == [1, 2, 3]
skate.shutdown()
if os.environ.get("SAY", "1") == "1":
    print("all right")
if got[0][0] != 2:
    sys.exit(5)
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM, encoding="utf-8")
    return path


def run(arguments: list[str | bytes], **options: object) -> subprocess.CompletedProcess[bytes]:
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    if "input" not in options:
        options["stdin"] = subprocess.DEVNULL
    return subprocess.run([sys.executable, *arguments], check=False, **options)  # type: ignore[call-overload]


def works(done: subprocess.CompletedProcess[bytes]) -> None:
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, [b"all right"]), done.stderr.decode(
        errors="replace"
    )


@pytest.mark.parametrize("flags", ["-bb", "-O", "-OO", "-I", "-s", "-B", "-W error", "-X dev"])
def test_flags_of_python(program: Path, flags: str) -> None:
    text = program.read_text(encoding="utf-8")
    if flags.startswith("-O"):  # its asserts say nothing there
        program.write_text(text.replace("assert ", "check = "), encoding="utf-8")
    works(run([*flags.split(), str(program)]))


def test_flags_reach_the_workers(tmp_path: Path) -> None:
    code = (
        "import sys, skate; skate.init(num_cpus=1); "
        "print(skate.get(skate.remote(lambda: (sys.flags.optimize, sys.flags.bytes_warning)).remote()))"
    )
    assert run(["-O", "-bb", "-c", code], cwd=tmp_path).stdout == b"(1, 2)\n"


@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONHASHSEED": "0"},
        {"PYTHONDONTWRITEBYTECODE": "1"},
        {"HOME": "/nonexistent"},
        {"HOME": None},
        {"TMPDIR": "/nonexistent"},
        {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": None},
        {"ODD": "\udcff\udcfe"},
        {"O\udcffDD": "x"},
    ],
    ids=[
        "hash-seed",
        "no-bytecode",
        "home-missing",
        "home-unset",
        "tmpdir-missing",
        "lang-c",
        "value",
        "name",
    ],
)
def test_variables(program: Path, variables: dict[str, str | None]) -> None:
    merged = {**os.environ, **variables}
    works(run([str(program)], env={name: value for name, value in merged.items() if value is not None}))


def test_no_variables(program: Path) -> None:
    # Where the package and its libraries are, this Python finds by itself.
    works(run([str(program)], env={"TMPDIR": os.environ.get("TMPDIR", "/tmp")}))


@pytest.mark.parametrize("name", ["x" * 100, "f\udcff"], ids=["long", "not-utf-8"])
def test_folders_for_temporary_files(program: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    works(run([str(program)], env={**os.environ, "TMPDIR": str(folder)}))


def test_names_that_are_not_utf_8(tmp_path: Path) -> None:
    folder = tmp_path / "f\udcff"
    folder.mkdir()
    (folder / "program.py").write_text(PROGRAM, encoding="utf-8")
    works(run([str(folder / "program.py"), b"\xff\xfe"]))
    works(run(["program.py"], cwd=folder))


def test_a_working_folder_that_was_deleted(program: Path, tmp_path: Path) -> None:
    gone = "import os; os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone');"
    exec_it = f"exec(compile(open({str(program)!r}, encoding='utf-8').read(), 'program', 'exec'))"
    works(run(["-c", f"{gone} {exec_it}"], cwd=tmp_path))
    relative = f"{gone} import skate; skate.init(runtime_env={{'working_dir': 'x'}})"
    done = run(["-c", relative], cwd=tmp_path)
    assert (
        b"FileNotFoundError: 'x' is relative to the working folder of this process, which was deleted"
        in done.stderr
    )


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_umasks(program: Path, tmp_path: Path, umask: int) -> None:
    folder = Path(os.environ.get("TMPDIR", "/tmp")) / f"u{os.getpid()}"
    folder.mkdir()
    try:
        done = run([str(program)], umask=umask, env={**os.environ, "TMPDIR": str(folder)})
        works(done)
        modes = {path.stat().st_mode & 0o777 for path in folder.iterdir()}
        assert modes == {0o700}
    finally:
        subprocess.run(["rm", "-rf", str(folder)], check=True)


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_closed_descriptors(program: Path, closed: tuple[int, ...]) -> None:
    def close() -> None:
        for fd in closed:
            os.close(fd)

    done = run([str(program)], preexec_fn=close)
    assert done.returncode == 0, done.stderr
    if 1 not in closed:
        assert done.stdout.splitlines()[-1] == b"all right"


def test_nobody_reads_what_it_prints(program: Path) -> None:
    """Output of tasks that cannot be shown stops nothing."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        done = run([str(program)], stdout=write_end, env={**os.environ, "SAY": "0"})
    finally:
        os.close(write_end)
    assert (done.returncode, done.stderr) == (0, b"")


def _zipped(program: Path) -> list[str]:
    folder = program.parent / "packed"
    folder.mkdir()
    (folder / "__main__.py").write_text(
        PROGRAM.replace("def add(", "from inside import add\ndef _("), encoding="utf-8"
    )
    (folder / "inside.py").write_text("def add(x, y=1):\n    return x + y\n", encoding="utf-8")
    zipapp.create_archive(folder, program.parent / "program.pyz")
    return [str(program.parent / "program.pyz")]


@pytest.mark.parametrize(
    "arguments",
    [
        lambda program: ["-c", PROGRAM],
        lambda program: [
            "-c",
            f"exec(open({str(program)!r}, encoding='utf-8').read(), {{'__name__': 'other'}})",
        ],
        lambda program: ["-c", f"import runpy; runpy.run_path({str(program)!r}, run_name='__main__')"],
        _zipped,
    ],
    ids=["command", "exec", "runpy", "zipapp"],
)
def test_ways_to_run(program: Path, arguments: Callable[[Path], list[str]]) -> None:
    works(run([*arguments(program)]))


def test_from_standard_input() -> None:
    works(run([], input=PROGRAM.encode()))
