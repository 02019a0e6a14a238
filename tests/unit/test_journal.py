"""The journal: which phase may follow which, and what a crash leaves behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from flotilla.journal import TRANSITIONS, Colour, Journal, JournalError, Phase, Slot, load, save
from hypothesis import given
from hypothesis import strategies as st

LIVE = Slot("r1", Colour.GREEN)


def test_a_release_is_prepared_in_the_colour_that_does_not_serve() -> None:
    assert Journal(live=LIVE).begin("r2").candidate == Slot("r2", Colour.BLUE)


def test_the_first_release_is_blue() -> None:
    assert Journal().begin("r1").candidate == Slot("r1", Colour.BLUE)


def test_a_commit_needs_a_prepared_release() -> None:
    with pytest.raises(JournalError, match="preparing cannot become committing"):
        Journal().begin("r1").enter(Phase.COMMITTING)


def test_nothing_is_aborted_while_the_old_colour_is_taken_down() -> None:
    with pytest.raises(JournalError):
        Journal(phase=Phase.FINISHING, candidate=LIVE).enter(Phase.ABORTING)


def test_a_discarded_candidate_leaves_what_served() -> None:
    journal = Journal(live=LIVE).begin("r2").enter(Phase.ABORTING).discard()
    assert journal == Journal(live=LIVE)


def test_a_promoted_candidate_serves() -> None:
    journal = Journal(live=LIVE).begin("r2")
    for phase in (Phase.PREPARED, Phase.COMMITTING, Phase.COMMITTED, Phase.FINISHING):
        journal = journal.enter(phase)
    assert journal.promote() == Journal(live=Slot("r2", Colour.BLUE))


@pytest.mark.parametrize("phase", list(Phase))
def test_what_is_being_done_may_be_done_again_and_ends(phase: Phase) -> None:
    assert (phase in TRANSITIONS[phase]) == phase.endswith("ing")
    reached, front = {phase}, {phase}
    while front:
        front = {after for before in front for after in TRANSITIONS[before]} - reached
        reached |= front
    assert Phase.IDLE in reached


def test_that_traffic_moved_is_remembered_through_an_abort() -> None:
    journal = Journal(live=LIVE).begin("r2").enter(Phase.PREPARED)
    assert not journal.moved
    journal = journal.enter(Phase.COMMITTING).enter(Phase.ABORTING).enter(Phase.ABORTING)
    assert journal.moved
    assert not journal.discard().moved
    assert not journal.discard().begin("r3").moved


def test_a_journal_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text(
        '{"phase": "idle", "live": {"release": "r1", "colour": "green"}, "candidate": null}'
    )
    assert load(tmp_path / "state.json") == Journal(live=LIVE)


def test_a_missing_journal_is_an_app_that_was_never_deployed(tmp_path: Path) -> None:
    assert load(tmp_path / "state.json") == Journal()


slots = st.none() | st.builds(Slot, st.text(min_size=1), st.sampled_from(Colour))


@given(st.builds(Journal, st.sampled_from(Phase), slots, slots, st.booleans()))
def test_a_journal_survives_the_disk(tmp_path_factory: pytest.TempPathFactory, journal: Journal) -> None:
    path = tmp_path_factory.mktemp("journal") / "state.json"
    save(path, journal)
    assert load(path) == journal
    assert path.stat().st_mode & 0o777 == 0o600
