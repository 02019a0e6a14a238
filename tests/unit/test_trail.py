"""The trail of a host: appended to, followed, and found out when somebody changed it."""

from __future__ import annotations

import json
import os
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest
from flotilla.trail import APPEND_ONLY, Chain, Head, Trail, TrailError, add_flag, flags, read_chain, seal
from hypothesis import given, settings
from hypothesis import strategies as st

TEXTS = st.text(max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
ENTRIES = st.lists(st.dictionaries(TEXTS, VALUES, max_size=4), min_size=1, max_size=5)


def chained(entries: list[dict[str, Any]]) -> str:
    """The text of a trail with these entries."""
    head, lines = Head(), []
    for entry in entries:
        lines.append(seal(entry, head))
        head = read_chain("\n".join([*lines, ""])).head
    return "\n".join([*lines, ""])


def trail_of(path: Path, *verbs: str) -> Trail:
    trail = Trail(path / "flotilla" / "trail.jsonl", contained=True)
    for verb in verbs:
        trail.append({"verb": verb})
    return trail


@settings(max_examples=settings().max_examples // 2)
@given(ENTRIES)
def test_what_was_written_is_read_back(entries: list[dict[str, Any]]) -> None:
    chain = read_chain(chained(entries))
    assert (chain.problems, chain.notes, chain.ended) == ((), (), True)
    own = {"n", "previous", "hash", "torn"}
    kept = [{name: value for name, value in one.items() if name not in own} for one in chain.entries]
    assert kept == [{name: value for name, value in one.items() if name not in own} for one in entries]


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    assert isinstance(read_chain(text), Chain)


@settings(max_examples=settings().max_examples // 2)
@given(ENTRIES, st.randoms(use_true_random=False))
def test_no_character_can_be_changed(entries: list[dict[str, Any]], chance: random.Random) -> None:
    """But in the last line, which may be what a crash left: others know its hash."""
    text = chained([*entries, {"verb": "last"}])
    last = text.rstrip("\n").rfind("\n")
    place = chance.randrange(last)
    other = chance.choice([one for one in "0a {}" if one != text[place]])
    assert read_chain(text[:place] + other + text[place + 1 :]).problems


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda lines: lines[1:], id="first-line-gone"),
        pytest.param(lambda lines: [lines[0], *lines[2:]], id="a-line-gone"),
        pytest.param(lambda lines: [lines[1], lines[0], lines[2]], id="two-swapped"),
        pytest.param(lambda lines: [lines[0], *lines], id="a-line-twice"),
        pytest.param(lambda lines: [lines[0], "nonsense", *lines[1:]], id="a-line-put-in"),
        pytest.param(lambda lines: [lines[0], "", *lines[1:]], id="an-empty-line-put-in"),
        pytest.param(lambda lines: [lines[0], lines[1].replace('"b"', '"x"'), lines[2]], id="a-word-changed"),
        pytest.param(lambda lines: [lines[0], lines[1].replace(",", ", "), lines[2]], id="a-blank-put-in"),
        pytest.param(lambda lines: [lines[0], lines[1][:40], lines[2]], id="a-line-cut"),
    ],
)
def test_a_change_is_found(tmp_path: Path, change: Any) -> None:
    trail = trail_of(tmp_path, "a", "b", "c")
    assert trail.read().problems == ()
    lines = trail.path.read_text().splitlines()
    trail.path.write_text("\n".join([*change(lines), ""]))
    assert trail.read().problems


def test_a_line_that_was_cut_off_stays_and_the_chain_goes_on(tmp_path: Path) -> None:
    trail = trail_of(tmp_path, "a", "b")
    whole = trail.path.read_bytes()
    trail.path.write_bytes(whole[:-30])
    assert trail.read().notes == ("the last line cannot be read, as after a crash; the next entry says so",)
    trail.append({"verb": "c"})
    assert trail.path.read_bytes().startswith(whole[:-30] + b"\n")
    chain = trail.read()
    assert chain.problems == ()
    assert [one["verb"] for one in chain.entries] == ["a", "c"]
    assert chain.notes == ("before line 3 stands what a crash cut off; the chain goes on",)
    lines = trail.path.read_text().splitlines()
    trail.path.write_text("\n".join([lines[0], lines[2], ""]))
    assert trail.read().problems


def test_an_entry_that_lacks_its_line_end_alone_is_one(tmp_path: Path) -> None:
    trail = trail_of(tmp_path, "a", "b")
    trail.path.write_bytes(trail.path.read_bytes()[:-1])
    trail.append({"verb": "c"})
    chain = trail.read()
    assert (chain.problems, chain.notes) == ((), ())
    assert [one["verb"] for one in chain.entries] == ["a", "b", "c"]


def test_a_long_trail_goes_on_where_it_ended(tmp_path: Path) -> None:
    trail = trail_of(tmp_path)
    for number in range(120):
        trail.append({"verb": "a", "reason": f"{number} " + "x" * 800})
    with trail.path.open("ab") as file:
        file.write(b"cut off")
    trail.append({"verb": "after"})
    with trail.path.open("ab") as file:
        file.write(b"y" * 200_000)
    assert trail.head()[0] == 121
    trail.append({"verb": "last"})
    chain = trail.read()
    assert chain.problems == ()
    assert [one["n"] for one in chain.entries] == list(range(1, 123))
    assert len(chain.notes) == 2


def test_it_is_roots_alone_and_says_where_it_ends(tmp_path: Path) -> None:
    trail = trail_of(tmp_path)
    assert trail.head() == [0, "0" * 64]
    head = trail.append({"verb": "a"})
    assert trail.path.stat().st_mode & 0o777 == 0o600
    assert head.number == 1
    assert trail.head() == [1, json.loads(trail.path.read_text())["hash"]]


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    trail = trail_of(tmp_path)
    trail.path.parent.mkdir()
    trail.path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TrailError, match="cannot be written"):
        trail.append({"verb": "a"})


def test_what_it_says_of_other_hosts(tmp_path: Path) -> None:
    trail = trail_of(tmp_path)
    trail.append({"verb": "a", "heads": {"app-2": [3, "abc", "key"]}, "by": {"environment": "staging"}})
    trail.append({"verb": "b", "heads": {"app-2": [3, "abc"], "app-1": ["x"]}, "by": {"environment": "production"}})
    chain = trail.read()
    told = [(one["host"], one["number"], one["hash"]) for one in chain.seen()]
    assert told == [("app-2", 3, "abc")]
    assert chain.environments() == ["production", "staging"]


def test_a_file_that_others_may_read_is_a_problem(tmp_path: Path) -> None:
    trail = trail_of(tmp_path, "a")
    trail.path.chmod(0o644)
    problems, notes = trail.standing()
    assert "chmod 600" in problems[0]
    assert "container" in notes[0]


def test_the_kernel_refuses_to_cut_it(tmp_path: Path) -> None:
    """Where the file system and our rights allow it; a container has neither and says so."""
    path = tmp_path / "trail.jsonl"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        marked = add_flag(descriptor)
        if not marked:
            assert Trail(path, contained=False).append({"verb": "a"}).number == 1
            return
        trail = Trail(path, contained=False)
        trail.append({"verb": "a"})
        trail.append({"verb": "b"})
        assert trail.standing() == ([], [])
        with pytest.raises(PermissionError):
            os.truncate(path, 0)
        with pytest.raises(PermissionError):
            path.write_text("")
        with pytest.raises(PermissionError):
            path.unlink()
        clear_flag(path)
        assert "is not append-only any more" in trail.standing()[0][0]
    finally:
        if flags_or_none(descriptor) & APPEND_ONLY:
            clear_flag(path)
        os.close(descriptor)


def flags_or_none(descriptor: int) -> int:
    try:
        return flags(descriptor)
    except OSError:
        return 0


def clear_flag(path: Path) -> None:
    subprocess.run(["chattr", "-a", str(path)], check=True)
