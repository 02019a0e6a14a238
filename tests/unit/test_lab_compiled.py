"""Python on a droplet with packages: what it compiled of a zip file is kept, and is never taken for something else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

DROPLET = Path(__file__).parents[1] / "lab/images/packages"
RUN = """
import sys
import lab_compiled
lab_compiled.DIRECTORY = sys.argv[1]
sys.path.insert(0, sys.argv[2])
import shipped
print(shipped.VALUE)
"""


def value(directory: Path, source: str) -> str:
    """Return what a process prints of a module that comes in a zip file."""
    with zipfile.ZipFile(directory / "shipped.zip", "w") as archive:
        archive.writestr("shipped.py", source)
    return subprocess.run(
        [sys.executable, "-c", RUN, str(directory / "kept"), str(directory / "shipped.zip")],
        env={"PYTHONPATH": str(DROPLET)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.strip()


def test_what_was_compiled_is_kept_until_the_source_is_another(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    assert value(tmp_path, "VALUE = 'first'") == "first"
    (first,) = kept.iterdir()
    compiled = first.read_bytes()
    assert value(tmp_path, "VALUE = 'other'") == "other"
    (other,) = set(kept.iterdir()) - {first}
    # As if the other source had been compiled so.
    other.write_bytes(compiled)
    assert value(tmp_path, "VALUE = 'other'") == "first"


def test_a_broken_or_missing_cache_does_no_harm(tmp_path: Path) -> None:
    assert value(tmp_path, "VALUE = 'first'") == "first"
    kept = tmp_path / "kept"
    kept.mkdir()
    value(tmp_path, "VALUE = 'first'")
    (file,) = kept.iterdir()
    file.write_bytes(file.read_bytes()[:20])
    assert value(tmp_path, "VALUE = 'first'") == "first"
