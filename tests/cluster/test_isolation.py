"""A test run neither sees nor joins other sessions of the machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from .processes import run, run_pytest

INSIDE = """
    import skate
    from skate._launch import session

    def test_no_other_session_is_seen():
        assert session.living() == []
        with pytest.raises(ConnectionError, match="auto"):
            skate.init("auto")

    def test_no_other_session_is_joined():
        context = skate.init(num_cpus=1)
        assert context["session_dir"].startswith(os.environ["TMPDIR"])
        assert session.living() == [context["session_dir"]]
        skate.shutdown()

    def test_folders_are_under_it(tmp_path):
        assert subprocess.check_output(["sh", "-c", "mktemp -u"], text=True).startswith(os.environ["TMPDIR"])
"""


def test_a_session_beside_a_test_run(folder: str, tmp_path: Path) -> None:
    """Neither by the user's folder nor by a variable."""
    skate = [sys.executable, "-m", "skate"]
    try:
        started = run([*skate, "start", "--head", "--num-cpus", 1])
        assert started.returncode == 0, started.stderr
        current = Path(folder, f"skate-{os.getuid()}", "current").read_text()
        done = run_pytest(tmp_path, INSIDE, {"SKATE_ADDRESS": current, "RAY_ADDRESS": current})
        assert "3 passed" in done.stdout, done.stdout + done.stderr
        assert "drivers    0" in run([*skate, "status"]).stdout, "it goes on"
        assert os.listdir(folder) == [f"skate-{os.getuid()}"], "the run removed its folder"
    finally:
        assert run([*skate, "stop"]).returncode == 0
