"""What check mode shows of a deploy."""

from __future__ import annotations

from typing import Any

from flotilla.admission import difference

OLD = "registry.example.com/notes@sha256:1"
NEW = "registry.example.com/notes@sha256:2"
TAG = "registry.example.com/notes:1.1.0"


def admitted(**changes: Any) -> dict[str, Any]:
    answer = {
        "live": {"release": "20250101T120000Z-1.0.0", "version": "1.0.0", "colour": "blue"},
        "live_images": {"api": OLD},
        "images": {"api": TAG},
        "digests": {TAG: NEW},
        "matches": False,
    }
    return {**answer, **changes}


def test_a_deploy_that_changes_nothing_shows_nothing() -> None:
    assert difference(admitted(matches=True, digests={TAG: OLD}), "1.0.0") == {}
    # Another host asks the registry.
    assert difference(admitted(matches=True, digests={}), "1.0.0") == {}


def test_what_serves_and_what_would() -> None:
    found = difference(admitted(), "1.1.0")
    assert found["before"].splitlines() == [
        "version: 1.0.0",
        "release: 20250101T120000Z-1.0.0",
        "configuration: as it is",
        f"image of api: {OLD}",
    ]
    assert found["after"].splitlines() == [
        "version: 1.1.0",
        "release: a new one",
        "configuration: another one",
        f"image of api: {NEW}",
    ]


def test_what_was_added_to_the_users_services_is_shown() -> None:
    found = difference(admitted(live_hardened={}, hardened={"api": ["read_only: true", "cap_drop: [ALL]"]}), "1.1.0")
    assert "added to api" not in found["before"]
    assert found["after"].splitlines()[-1] == "added to api: read_only: true, cap_drop: [ALL]"


def test_a_tag_that_names_another_image_is_a_change() -> None:
    found = difference(admitted(matches=True), "1.0.0")
    assert "configuration: as it is" in found["after"]
    assert f"image of api: {NEW}" in found["after"]


def test_a_first_deploy_takes_nothings_place() -> None:
    nothing = {"release": "", "version": "", "colour": ""}
    found = difference(admitted(live=nothing, live_images={}, digests={}), "1.1.0")
    assert found["before"] == ""
    assert f"image of api: {TAG}" in found["after"]
