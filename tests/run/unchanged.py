"""Run a check, unless it passed on exactly these files before: `python -m tests.run.unchanged ansible-lint --offline`.

For a tool that keeps no results by itself and takes a minute and a half. What it passed on is remembered as a digest,
beside the caches of the other tools: of every file of the checkout that git does not ignore but prose, with the locked
requirements among them, of the command, and of the Python that runs it.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROSE = (".md", ".svg")
REMEMBERED = 50


def cache() -> Path:
    """Where passes are remembered: FLOTILLA_CACHE, or a directory of the user's."""
    base = os.environ.get("FLOTILLA_CACHE") or f"{os.environ.get('XDG_CACHE_HOME') or '~/.cache'}/flotilla"
    return Path(base).expanduser() / "passed"


def digest_of(root: Path, command: Sequence[str]) -> str:
    """Of the files, their names and modes, the command, and Python."""
    total = hashlib.sha256("\0".join((sys.version, *command)).encode())
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in sorted(set(listed.stdout.split("\0")) - {""}):
        path = root / name
        if path.is_file() and path.suffix not in PROSE:
            executable = bool(path.stat().st_mode & 0o100)
            total.update(f"\0{name}\0{executable}\0{hashlib.sha256(path.read_bytes()).hexdigest()}".encode())
    return total.hexdigest()


def main(command: Sequence[str], root: Path = ROOT) -> int:
    """The command's exit status, or 0 where it need not run."""
    try:
        passed = cache() / digest_of(root, command)
    except (OSError, subprocess.CalledProcessError):
        # Not a checkout of git.
        return subprocess.run(command, cwd=root, check=False).returncode
    if passed.exists():
        print(f"{command[0]}: passed on exactly these files before ({passed})")
        return 0
    code = subprocess.run(command, cwd=root, check=False).returncode
    # What it wrote meanwhile, or somebody else, is not what it passed on.
    if code == 0 and passed.name == digest_of(root, command):
        passed.parent.mkdir(parents=True, exist_ok=True)
        passed.touch()
        for old in sorted(passed.parent.iterdir(), key=lambda path: path.stat().st_mtime)[:-REMEMBERED]:
            old.unlink(missing_ok=True)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
