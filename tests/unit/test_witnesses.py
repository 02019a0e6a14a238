"""A host's trail against what the other hosts and the control node know of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from flotilla.trail import Trail
from flotilla.witnesses import Kept, contradictions
from hypothesis import given
from hypothesis import strategies as st

HOSTS = ("app-1", "app-2")


class Fleet:
    """Two hosts whose runs tell each of the other's head, as a deploy does."""

    def __init__(self, directory: Path) -> None:
        self.trails: dict[str, Trail] = {}
        for host in HOSTS:
            key = directory / f"{host}.pub"
            key.write_text(f"ssh-ed25519 {host}")
            self.trails[host] = Trail(directory / host / "trail.jsonl", contained=True, key=key)

    def run(self, verb: str) -> None:
        """What a run leaves: its begin on all hosts, then its end on all."""
        for step in ("begin", "end"):
            heads = {host: trail.head() for host, trail in self.trails.items()}
            for host, trail in self.trails.items():
                others = {other: head for other, head in heads.items() if other != host and head[0]}
                trail.append({"verb": verb, "step": step, "heads": others})

    def read(self) -> dict[str, dict[str, Any]]:
        """As the module flotilla_trail has it."""
        found = {}
        for host, trail in self.trails.items():
            chain = trail.read()
            links = [entry["hash"] for entry in chain.entries]
            found[host] = {"links": links, "seen": chain.seen(), "trail": trail.told(chain.head)}
        return found

    def forge(self, host: str, *verbs: str) -> None:
        """A new chain in place of the old, without a fault of its own."""
        self.trails[host].path.unlink()
        for verb in verbs:
            self.trails[host].append({"verb": verb})
        assert self.trails[host].read().problems == ()


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    made = Fleet(tmp_path)
    for verb in ("provision", "deploy"):
        made.run(verb)
    return made


def test_chains_that_nobody_touched_agree(fleet: Fleet) -> None:
    heads = {host: [told["trail"]] for host, told in fleet.read().items()}
    assert list(contradictions(fleet.read(), heads)) == []


def test_a_chain_that_was_made_anew_is_told_by_the_other_host(fleet: Fleet) -> None:
    fleet.forge("app-2", "a", "b", "c", "d")
    [(host, what)] = contradictions(fleet.read(), {})
    assert host == "app-2"
    assert "its log was rewritten: entry 1 is not the one that app-1 saw at" in what


def test_a_chain_that_was_cut_is_told_by_the_other_host(fleet: Fleet) -> None:
    path = fleet.trails["app-2"].path
    path.write_text(path.read_text().splitlines(keepends=True)[0])
    assert fleet.trails["app-2"].read().problems == ()
    [(host, what)] = contradictions(fleet.read(), {})
    assert (host, what.partition(" at ")[0]) == ("app-2", "its log has 1 entries, and app-1 saw")


def test_the_end_of_a_chain_is_known_to_the_control_node_alone(fleet: Fleet, tmp_path: Path) -> None:
    kept = Kept.of(tmp_path / "production")
    kept.add({host: told["trail"] for host, told in fleet.read().items()})
    path = fleet.trails["app-2"].path
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    assert list(contradictions(fleet.read(), {})) == []
    [(host, what)] = contradictions(fleet.read(), kept.read())
    assert (host, what) == ("app-2", "its log has 3 entries, and this control node saw 4: entries were taken away")


def test_a_host_that_says_that_it_is_another_is_told_by_the_control_node(fleet: Fleet, tmp_path: Path) -> None:
    kept = Kept.of(tmp_path / "production")
    kept.settle({host: told["trail"] for host, told in fleet.read().items()})
    fleet.trails["app-2"].key.write_text("ssh-ed25519 app-2 another comment")
    assert list(contradictions(fleet.read(), {})) == []
    assert [host for host, _ in contradictions(fleet.read(), kept.read())] == ["app-2"]


def test_a_head_is_kept_beside_the_others_until_the_chain_was_seen_to_have_them(tmp_path: Path) -> None:
    kept = Kept.of(tmp_path / "production")
    kept.file.parent.mkdir()
    kept.file.write_text(json.dumps({"app-1": [4, "d", "k"]}))
    kept.add({"app-1": [3, "c", "k"]})
    assert kept.read() == {"app-1": [[4, "d", "k"], [3, "c", "k"]]}
    kept.settle({"app-1": [5, "e", "k"]})
    assert kept.read() == {"app-1": [[5, "e", "k"]]}
    assert kept.file.stat().st_mode & 0o777 == 0o600


@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_any_file_can_be_read(text: str) -> None:
    class Given:
        def read_text(self) -> str:
            return text

    assert isinstance(Kept(Given()).read(), dict)  # type: ignore[arg-type]
