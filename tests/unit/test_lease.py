"""The lock of an environment: who gets it, who keeps it, and what the loser is told."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from flotilla.lease import Lease, LeaseError, LeaseFile, available
from flotilla.processes import identify, is_dead, machine, started
from hypothesis import given
from hypothesis import strategies as st

ALICE = Lease("token-a", "alice@laptop", "deploy notes 1.1.0")
BOB = Lease("token-b", "bob@ci", "rollback notes")
NOW = 1_700_000_000.0


@pytest.fixture
def lease(tmp_path: Path) -> LeaseFile:
    return LeaseFile(tmp_path / "flotilla/lock.json", tmp_path / "run/lease.lock", "app-1", "unlock now")


def test_a_free_lease_is_taken(lease: LeaseFile) -> None:
    assert lease.take(ALICE, 60, now=NOW) is None
    assert lease.read() == replace(ALICE, since=NOW, expires=NOW + 60)


def test_its_file_is_roots_alone(lease: LeaseFile) -> None:
    lease.take(ALICE, 60, now=NOW)
    assert lease.path.stat().st_mode & 0o777 == 0o600


def test_the_loser_is_told_who_why_since_when_until_when_and_what_next(lease: LeaseFile) -> None:
    lease.take(ALICE, 60, now=NOW)
    with pytest.raises(LeaseError) as refusal:
        lease.take(BOB, 60, now=NOW + 12)
    said = str(refusal.value)
    for part in (
        "app-1",
        "alice@laptop",
        "deploy notes 1.1.0",
        "2023-11-14T22:13:20Z",
        "12 s ago",
        "2023-11-14T22:14:20Z",
        "48 s from now",
        "Next: wait",
        "unlock now",
    ):
        assert part in said
    assert lease.read() == replace(ALICE, since=NOW, expires=NOW + 60)


def test_taking_it_again_renews_it_and_keeps_its_beginning(lease: LeaseFile) -> None:
    lease.take(ALICE, 60, now=NOW)
    assert lease.take(ALICE, 60, now=NOW + 30) is None
    assert lease.read() == replace(ALICE, since=NOW, expires=NOW + 90)


def test_an_expired_lease_is_taken_over_and_its_owner_named(lease: LeaseFile) -> None:
    lease.take(ALICE, 60, now=NOW)
    taken = lease.take(BOB, 60, now=NOW + 60)
    assert taken and taken.owner == "alice@laptop"
    assert lease.read() == replace(BOB, since=NOW + 60, expires=NOW + 120)


def test_a_dead_holders_lease_is_taken_over_at_once(lease: LeaseFile) -> None:
    lease.take(ALICE, 600, now=NOW)
    taken = lease.take(BOB, 60, superseded=["token-a"], now=NOW + 1)
    assert taken and taken.token == "token-a"


def test_a_holder_that_was_taken_over_is_refused_from_then_on(lease: LeaseFile) -> None:
    lease.take(ALICE, 60, now=NOW)
    lease.take(BOB, 600, now=NOW + 60)
    with pytest.raises(LeaseError, match=r"lost the lock.*bob@ci"):
        lease.hold("token-a", 60, now=NOW + 61)
    assert lease.release("token-a") is False
    assert (found := lease.read()) and found.token == "token-b"


def test_an_expired_lease_that_nobody_wanted_is_renewed(lease: LeaseFile) -> None:
    lease.take(ALICE, 60, now=NOW)
    lease.hold("token-a", 60, now=NOW + 100)
    assert lease.read() == replace(ALICE, since=NOW, expires=NOW + 160)


def test_a_run_with_less_to_do_holds_it_shorter(lease: LeaseFile) -> None:
    lease.take(ALICE, 600, now=NOW)
    lease.hold("token-a", 10, now=NOW + 1)
    assert (found := lease.read()) and found.expires == NOW + 11


def test_nothing_can_be_done_without_it(lease: LeaseFile) -> None:
    with pytest.raises(LeaseError, match="it was removed"):
        lease.hold("token-a", 60, now=NOW)


def test_it_is_given_back(lease: LeaseFile) -> None:
    lease.take(ALICE, 60, now=NOW)
    assert lease.release("token-a") is True
    assert lease.read() is None
    assert lease.release("token-a") is False


def test_it_can_be_removed_by_force(lease: LeaseFile) -> None:
    assert lease.remove() is None
    lease.take(ALICE, 60, now=NOW)
    assert (removed := lease.remove()) and removed.owner == "alice@laptop"
    assert lease.read() is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"token": "x"}'])
def test_an_unreadable_lease_locks_and_can_be_removed(lease: LeaseFile, text: str) -> None:
    lease.path.parent.mkdir()
    lease.path.write_text(text)
    with pytest.raises(LeaseError, match="unlock now"):
        lease.take(ALICE, 60, now=NOW)
    assert lease.remove() is not None
    assert lease.take(ALICE, 60, now=NOW) is None


def test_of_many_runs_at_once_one_wins(lease: LeaseFile) -> None:
    start, won = threading.Barrier(20), []

    def run(number: int) -> None:
        start.wait()
        try:
            lease.take(Lease(f"token-{number}", "me", "deploy"), 60)
            won.append(number)
        except LeaseError:
            pass

    threads = [threading.Thread(target=run, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert json.loads(lease.path.read_text())["token"] == f"token-{won[0]}"


@given(
    st.none() | st.sampled_from([ALICE, BOB]),
    st.floats(0, 100),
    st.floats(0, 100),
    st.lists(st.sampled_from(["token-a", "token-b"])),
)
def test_anothers_lease_is_available_only_when_expired_or_superseded(
    current: Lease | None, expires: float, now: float, superseded: list[str]
) -> None:
    held = replace(current, expires=expires) if current else None
    wanted = available(held, "token-a", superseded, now)
    assert wanted == (held is None or held.token == "token-a" or held.token in superseded or expires <= now)


def test_a_process_is_told_from_one_that_is_gone() -> None:
    mine = identify(os.getpid())
    assert not is_dead(mine.machine, mine.process)
    assert is_dead(mine.machine, f"{os.getpid()}:1")
    assert is_dead(mine.machine, "4194305:1")


def test_nothing_is_said_of_a_process_elsewhere() -> None:
    assert not is_dead("another machine", "4194305:1")
    assert not is_dead("", "")
    assert not is_dead(machine(), "")


def test_a_start_time_is_read_behind_any_name(tmp_path: Path) -> None:
    directory = tmp_path / "7"
    directory.mkdir()
    directory.joinpath("stat").write_text("7 (a) b (c) S " + " ".join(str(number) for number in range(4, 60)))
    assert started(7, tmp_path) == "22"
