"""What a person may ask of playbooks/restore.yml."""

from __future__ import annotations

from typing import Any

import pytest
from flotilla.restoring import asked, scratch_lines, trouble

TIME = "2026-11-22 10:00:00+00"
POINT = "flotilla-20261122T100000Z-1.1.0"
PLACE = {"into": "place", "confirm": "production"}


def of(**given: Any) -> dict[str, Any]:
    return asked(given, "production", " -i inventories/production")


@pytest.mark.parametrize(
    ("given", "arguments"),
    [
        ({"to": "latest"}, ["--to=latest"]),
        ({"to": "time", "time": TIME}, ["--to=time", "--what=2026-11-22 10:00:00.000000+0000"]),
        ({"to": "time", "time": "2026-11-22T10:00:00.5Z"}, ["--to=time", "--what=2026-11-22 10:00:00.500000+0000"]),
        ({"to": "point", "point": POINT}, ["--to=point", f"--what={POINT}"]),
        ({"to": "backup", "label": "20261122-100000F"}, ["--to=backup", "--label=20261122-100000F"]),
        (
            {"to": "latest", "label": "20261122-100000F_20261122-110000I", "timeline": 2},
            ["--to=latest", "--label=20261122-100000F_20261122-110000I", "--timeline=2"],
        ),
    ],
)
def test_what_is_right_becomes_arguments(given: dict[str, Any], arguments: list[str]) -> None:
    for where in ({}, PLACE):
        found = of(**given, **where)
        assert found["problems"] == []
        assert found["arguments"] == arguments


@pytest.mark.parametrize(
    ("given", "variable", "words"),
    [
        ({}, "to", "is not given"),
        ({"to": "lates"}, "to", "did you mean `latest`?"),
        ({"to": "time"}, "time", "is not given, and to=time needs it"),
        ({"to": "time", "time": "2026-11-22"}, "time", "must be a time, with its zone"),
        ({"to": "time", "time": "2026-11-22 10:00:00"}, "time", "with its zone"),
        ({"to": "time", "time": "2026-13-22 10:00:00+00"}, "time", "must be a time"),
        ({"to": "latest", "time": TIME}, "time", "is given, and to is `latest`"),
        ({"to": "point", "point": "x'; DROP TABLE y"}, "point", "must be a point"),
        ({"to": "backup", "label": "newest"}, "label", "must be a label"),
        ({"to": "latest", "into": "plaec"}, "into", "did you mean `place`?"),
        ({"to": "latest", "into": "place"}, "confirm", "is not given; this is production"),
        ({"to": "latest", "into": "place", "confirm": "staging"}, "confirm", "is `staging`; this is production"),
        ({"state": "confirmed"}, "confirm", "is not given"),
        ({"state": "undone", "confirm": "prod"}, "confirm", "is `prod`"),
        ({"state": "absent", "into": "place", "confirm": "production"}, "state", "nothing of Flotilla's removes"),
        ({"state": "gone"}, "state", "must be one of"),
    ],
)
def test_what_is_wrong_is_told_by_its_name(given: dict[str, Any], variable: str, words: str) -> None:
    found = of(**given)
    (problem,) = found["problems"]
    assert problem.startswith(f"command line: {variable}: ")
    assert words in problem
    assert "Next: " in problem
    assert found["arguments"] == []


def test_a_scratch_instance_is_removed_without_the_environments_name() -> None:
    assert of(state="absent") | {"says": ""} == {
        "problems": [],
        "state": "absent",
        "into": "scratch",
        "count": True,
        "arguments": ["--to=latest"],
        "volume": "",
        "says": "",
    }


def test_the_lines_say_how_to_look_and_how_to_remove() -> None:
    result = {"container": "postgres-scratch", "backup": "x", "seconds": 3, "databases": ["notes"]}
    lines = scratch_lines(result, ["notes.public.notes: 3 rows now, 2 then (-1)"], "db-1", " -i i")
    assert "notes.public.notes: 3 rows now, 2 then (-1)" in lines
    assert lines[-2] == (
        "Look at it, on db-1: docker exec -it postgres-scratch sh /etc/postgresql/session.sh postgres psql "
        "<one of notes>, where tables are named with their schema"
    )
    assert lines[-1] == "Remove it: ansible-playbook playbooks/restore.yml -i i -e state=absent"


def test_one_that_goes_at_once_is_not_to_be_looked_at() -> None:
    result = {"container": "postgres-scratch", "backup": "x", "seconds": 3, "databases": ["notes"]}
    lines = scratch_lines(result, [], "db-1", " -i i", stays=False)
    assert len(lines) == 2
    assert lines[1].startswith("Every table has as many rows")


def test_of_a_loop_it_is_the_one_that_failed() -> None:
    results = [{"msg": "fine"}, {"failed": True, "msg": "the environment is locked by bob"}]
    assert trouble({"msg": "One or more items failed", "results": results}) == "the environment is locked by bob"
    assert trouble({"rc": 1, "stderr": "no\nbackup"}) == "no backup"
