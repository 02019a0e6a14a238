"""Which release a rollback goes to, and what it says when there is none."""

from __future__ import annotations

from typing import Any

import pytest
from flotilla.targets import NoTargetError, choose, kept_database, targets

COMMAND = "ansible-playbook rollback.yml -i inventories/production"
LIVE = {"app-1": "r4", "app-2": "r4"}


def release(name: str, standing: str = "proven", lacks: str = "") -> dict[str, Any]:
    return {"id": name, "version": f"1.{name[1:]}", "standing": standing, "lacks": lacks}


def fleet(first: list[dict[str, Any]], second: list[dict[str, Any]] | None = None) -> dict[str, list[dict[str, Any]]]:
    return {"app-1": first, "app-2": first if second is None else second}


KEPT = fleet([release("r1"), release("r2"), release("r3", "reverted"), release("r4", "live")])


def test_it_goes_to_the_last_proven_one_before_the_live_one() -> None:
    assert choose(targets(KEPT), LIVE, []).id == "r2"


@pytest.mark.parametrize("standing", ["reverted", "refused", "prepared", "rolled back"])
def test_what_did_not_prove_itself_is_never_chosen(standing: str) -> None:
    found = targets(fleet([release("r1"), release("r3", standing), release("r4", "live")]))
    assert choose(found, LIVE, []).id == "r1"


def test_after_a_rollback_the_next_one_goes_further_back() -> None:
    found = targets(fleet([release("r1"), release("r2", "live"), release("r4", "rolled back")]))
    assert choose(found, {"app-1": "r2", "app-2": "r2"}, []).id == "r1"


def test_one_that_was_rolled_back_from_can_be_named() -> None:
    found = targets(fleet([release("r2", "live"), release("r4", "rolled back")]))
    assert choose(found, {"app-1": "r2", "app-2": "r2"}, [], wanted="r4").id == "r4"


def test_every_host_must_keep_it() -> None:
    first = [release("r1"), release("r2"), release("r4", "live")]
    second = [release("r1"), release("r4", "live")]
    assert choose(targets(fleet(first, second)), LIVE, []).id == "r1"


def test_every_host_must_have_it_whole() -> None:
    first = [release("r1"), release("r2", lacks="the engine does not have a@sha256:1"), release("r4", "live")]
    found = targets(fleet(first))
    assert choose(found, LIVE, []).id == "r1"
    with pytest.raises(NoTargetError, match=r"r2 cannot be gone back to .*the engine does not have"):
        choose(found, LIVE, [], wanted="r2", command=COMMAND)


def test_a_version_names_its_newest_release() -> None:
    kept = [release("r1"), {**release("r2"), "version": "1.1"}, release("r4", "live")]
    assert choose(targets(fleet(kept)), LIVE, [], wanted="1.1").id == "r2"


@pytest.mark.parametrize(
    ("live", "wanted", "says"),
    [
        (LIVE, "r9", "no host has a release r9 (can be gone back to: r4, r2, r1)"),
        (LIVE, "r3", "r3 cannot be gone back to (app-1: reverted"),
        (LIVE, "r4", "r4 serves already on app-1, app-2"),
        ({"app-1": "r1", "app-2": "r1"}, "", "there is no proven release before r1 on all of app-1, app-2"),
        ({"app-1": "", "app-2": ""}, "", "nothing serves"),
        ({"app-1": "r4", "app-2": "r2"}, "", "do not serve the same release (r4 on app-1, r2 on app-2)"),
    ],
)
def test_it_says_why_not_and_what_next(live: dict[str, str], wanted: str, says: str) -> None:
    with pytest.raises(NoTargetError) as refusal:
        choose(targets(KEPT), live, [], wanted=wanted, command=COMMAND)
    assert says in str(refusal.value)
    assert f"Next: {COMMAND}" in str(refusal.value) or f", {COMMAND}" in str(refusal.value)


def test_hosts_that_differ_go_to_the_one_that_is_named() -> None:
    assert choose(targets(KEPT), {"app-1": "r4", "app-2": "r2"}, [], wanted="r2").id == "r2"


def test_an_incompatible_migration_bars_the_way() -> None:
    barrier = [{"release": "r3", "version": "1.3"}]
    with pytest.raises(NoTargetError) as refusal:
        choose(targets(KEPT), LIVE, barrier, command=COMMAND)
    for part in ("1.2 (r2)", "1.3 (r3)", "migration.compatible", "restore the database", "-e across_migration=true"):
        assert part in str(refusal.value)
    assert choose(targets(KEPT), LIVE, barrier, across=True).id == "r2"


def test_a_migration_before_the_target_does_not() -> None:
    assert choose(targets(KEPT), LIVE, [{"release": "r2", "version": "1.2"}]).id == "r2"


def test_a_migration_of_a_release_that_was_refused_counts() -> None:
    with pytest.raises(NoTargetError, match="incompatible"):
        choose(targets(KEPT), LIVE, [{"release": "r9", "version": "1.9"}])


def test_a_list_shows_every_release_with_its_verdicts() -> None:
    first = [release("r1"), release("r3", "reverted"), release("r4", "live")]
    found = targets(fleet(first, first[1:]))
    lines = [" ".join(target.line(["r4"]).split()) for target in found]
    assert lines == [
        "r4 live app-1: live, app-2: live",
        "r3 cannot be gone back to app-1: reverted, app-2: reverted",
        "r1 cannot be gone back to app-1: proven, app-2: not there",
    ]


MIGRATED = [
    {"id": "r1", "version": "1.1", "migration": "applied", "restore_point": "flotilla-r1"},
    {"id": "r2", "version": "1.2", "migration": "none", "restore_point": ""},
    {"id": "r3", "version": "1.3", "migration": "applied", "restore_point": "flotilla-r3"},
    {"id": "r4", "version": "1.4", "migration": "applied", "restore_point": "flotilla-r4"},
]


@pytest.mark.parametrize(
    ("target", "live", "left", "point"),
    [("r2", "r3", "1.3 (r3)", "flotilla-r3"), ("r2", "r4", "1.3 (r3), 1.4 (r4)", "flotilla-r3")],
)
def test_a_rollback_says_what_stays_in_the_database(target: str, live: str, left: str, point: str) -> None:
    told = kept_database(MIGRATED, target, live, "-i inventories/staging")
    assert f"with the migration of {left}." in told
    assert told.endswith(f"playbooks/restore.yml -i inventories/staging -e to=point -e point={point}")


def test_a_rollback_over_no_migration_says_nothing_of_the_database() -> None:
    assert kept_database(MIGRATED, "r1", "r2", "") == ""


def test_a_migration_without_backups_has_no_way_back() -> None:
    held = [{**MIGRATED[0], "restore_point": ""}]
    assert "no restore point" in kept_database(held, "r0", "r1", "")
