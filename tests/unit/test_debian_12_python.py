"""Python 3.11.2, which Debian 12 has, lacks what 3.11.4 brought: the argument `filter` of what unpacks archives."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UNPACK = frozenset({"extract", "extractall", "unpack_archive"})


def filtered(text: str) -> list[int]:
    """The lines of a program that give one of them a `filter`."""
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    return [
        call.lineno
        for call in calls
        if (call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")) in UNPACK
        and any(keyword.arg == "filter" for keyword in call.keywords)
    ]


def test_no_archive_is_unpacked_with_a_filter() -> None:
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = {name: filtered((ROOT / name).read_text()) for name in listed.split() if (ROOT / name).is_file()}
    assert len(found) > 100
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize("text", ["archive.extractall(path, filter='data')", "shutil.unpack_archive(a, filter='tar')"])
def test_a_new_place_would_be_found(text: str) -> None:
    assert filtered(text) == [1]
