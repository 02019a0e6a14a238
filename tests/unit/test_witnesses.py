"""A host's trail against what the other hosts and the control node know of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from flotilla.trail import Trail
from flotilla.witnesses import Kept, Known, contradictions
from hypothesis import given
from hypothesis import strategies as st

HOSTS = ("app-1", "app-2")


class Fleet:
    """Two hosts whose runs tell each of the other's head, as a deploy does."""

    def __init__(self, directory: Path) -> None:
        self.trails = {host: Trail(directory / host / "trail.jsonl", contained=True) for host in HOSTS}
        self.keys = {host: f"SHA256:{host}" for host in HOSTS}

    def run(self, verb: str) -> None:
        """What a run leaves: its begin on all hosts, then its end on all."""
        for step in ("begin", "end"):
            heads = {host: trail.head() for host, trail in self.trails.items()}
            for host, trail in self.trails.items():
                others = {other: head for other, head in heads.items() if other != host and head[0]}
                trail.append({"verb": verb, "step": step, "heads": others})

    def read(self) -> dict[str, dict[str, Any]]:
        """As the control node works it out."""
        found = {}
        for host, trail in self.trails.items():
            chain = trail.read()
            links = [entry["hash"] for entry in chain.entries]
            found[host] = {"links": links, "seen": chain.seen(), "trail": chain.head.told(), "key": self.keys[host]}
        return found

    def known(self) -> dict[str, Known]:
        """What a control node keeps that saw all of it."""
        return {host: Known((tuple(told["trail"]),), told["key"]) for host, told in self.read().items()}

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
    assert list(contradictions(fleet.read(), fleet.known())) == []


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


def test_a_host_with_another_key_is_told_by_the_control_node(fleet: Fleet) -> None:
    known = fleet.known()
    fleet.keys["app-2"] = "SHA256:another"
    [(host, what)] = contradictions(fleet.read(), known)
    assert (host, what) == (
        "app-2",
        "its SSH host key is not the one that this control node knew it by: SHA256:another and not SHA256:app-2",
    )


def test_what_others_saw_before_a_person_acknowledged_a_host_is_let_go(fleet: Fleet) -> None:
    fleet.forge("app-2", "provision")
    assert [host for host, _ in contradictions(fleet.read(), {})] == ["app-2"]
    assert list(contradictions(fleet.read(), {"app-2": Known(since="9")})) == []
    assert [host for host, _ in contradictions(fleet.read(), {"app-2": Known(since="2000")})] == ["app-2"]


def test_a_head_is_kept_beside_the_others_until_the_chain_was_seen_to_have_them(tmp_path: Path) -> None:
    kept = Kept.of(tmp_path / "production")
    kept.add({"app-1": [4, "d"]})
    kept.add({"app-1": [3, "c"]})
    judged = kept.read()
    assert judged == {"app-1": Known(((4, "d"), (3, "c")))}
    kept.add({"app-1": [6, "f"]})
    kept.settle({"app-1": Known(((5, "e"),), "SHA256:a")}, judged)
    assert kept.read() == {"app-1": Known(((5, "e"), (6, "f")), "SHA256:a")}
    kept.settle({"app-1": Known(((5, "e"),), since="2026")}, kept.read())
    assert kept.read() == {"app-1": Known(((5, "e"),), "SHA256:a", "2026")}
    assert kept.file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("before", [[4, "d", "k"], [[3, "c", "k"], [4, "d", "k"]]], ids=["one", "several"])
def test_what_earlier_versions_kept_counts(tmp_path: Path, before: list[Any]) -> None:
    kept = Kept.of(tmp_path / "production")
    kept.file.parent.mkdir()
    kept.file.write_text(json.dumps({"app-1": before}))
    assert kept.read()["app-1"].heads[-1] == (4, "d")
    assert kept.read()["app-1"].key == ""


@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_any_file_can_be_read(text: str) -> None:
    class Given:
        def read_text(self) -> str:
            return text

    assert isinstance(Kept(Given()).read(), dict)  # type: ignore[arg-type]
