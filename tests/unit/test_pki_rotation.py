"""The steps of a rotation, and what a list that skips one is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from flotilla.pki.rotation import Step, after, mark, next_step, skipped

from plugins.filter import flotilla_pki as filters
from tests.unit import pki_data as data

DAY = timedelta(days=1)
NOW = datetime.now(UTC)
OLD = data.authority(NOW - 900 * DAY, NOW + 900 * DAY)
NEW = data.authority(NOW - DAY, NOW + 3000 * DAY)
OTHER = data.authority(NOW - 2 * DAY, NOW + 3000 * DAY)


def test_three_steps_and_nothing_else() -> None:
    lists = [[OLD]]
    steps: list[Step] = []
    while len(steps) < 3:
        steps.append(next_step(lists[-1], mark(lists[-1])))
        lists.append([dict(one) for one in after(lists[-1], steps[-1], NEW)])
    assert steps == [Step.TRUST, Step.SIGN, Step.END]
    assert lists == [[OLD], [OLD, NEW], [NEW, OLD], [NEW]]


@pytest.mark.parametrize("entries", [[OLD, NEW], [NEW, OLD]])
@pytest.mark.parametrize("reached", ["", mark([OLD]), mark([OLD, OTHER])], ids=["none", "old", "other"])
def test_a_step_that_has_not_reached_everybody_is_repeated(entries: list[dict[str, str]], reached: str) -> None:
    step = next_step(entries, reached)
    assert step is Step.AGAIN
    assert after(entries, step) == entries


def test_the_first_step_needs_no_record() -> None:
    assert next_step([OLD], "") is Step.TRUST


@pytest.mark.parametrize("entries", [[], [OLD, NEW, OTHER], [OLD, OLD]])
def test_what_is_no_state_of_a_rotation_is_refused(entries: list[dict[str, str]]) -> None:
    with pytest.raises(AnsibleFilterError, match=r"vault_pki_authorities: has .* Next: "):
        filters.flotilla_pki_next_step(entries, mark(entries))


def test_a_record_tells_the_order_and_no_key() -> None:
    assert mark([OLD, NEW]) != mark([NEW, OLD])
    assert mark([OLD]) == mark([{"certificate": OLD["certificate"]}])


def on_host(signer: dict[str, str], *trusted: dict[str, str]) -> dict[str, Any]:
    certificate = data.certificate(signer, begins=NOW - DAY, ends=NOW + 90 * DAY)
    return {"certificate": certificate, "authorities": "".join(one["certificate"] for one in trusted)}


@pytest.mark.parametrize(
    ("found", "entries"),
    [
        (on_host(OLD, OLD), [OLD]),
        (on_host(OLD, OLD), [OLD, NEW]),
        (on_host(OLD, OLD, NEW), [NEW, OLD]),
        (on_host(NEW, NEW, OLD), [NEW]),
        ({"certificate": "", "authorities": ""}, [NEW]),
        ({"certificate": "rubbish", "authorities": NEW["certificate"]}, [NEW]),
    ],
)
def test_each_step_and_a_bare_host_are_accepted(found: dict[str, Any], entries: list[dict[str, str]]) -> None:
    assert skipped(found, entries) == ""


@pytest.mark.parametrize(
    ("found", "entries", "why"),
    [
        (on_host(OLD, OLD), [NEW], "does not trust yet who is to sign"),
        (on_host(OLD, OLD), [NEW, OLD], "does not trust yet who is to sign"),
        (on_host(OLD, OLD, NEW), [NEW], "would be trusted no more"),
    ],
)
def test_a_skipped_step_is_told(found: dict[str, Any], entries: list[dict[str, str]], why: str) -> None:
    plan = [{"name": "postgres", "directory": "/certs"}]
    assert why in filters.flotilla_pki_skipped(plan, {"/certs": found}, entries)


def test_what_apps_are_given_is_the_same_whoever_signs() -> None:
    both = OLD["certificate"] + NEW["certificate"]
    assert filters.flotilla_pki_bundle([OLD, NEW]) == filters.flotilla_pki_bundle([NEW, OLD]) == both
