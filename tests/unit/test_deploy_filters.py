"""What all hosts said, judged together."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

PATH = Path(__file__).parents[2] / "plugins/filter/flotilla_deploy.py"
spec = importlib.util.spec_from_file_location("flotilla_deploy", PATH)
assert spec and spec.loader
filters = importlib.util.module_from_spec(spec)
spec.loader.exec_module(filters)


def admitted(**changes: Any) -> dict[str, Any]:
    result = {
        "ok": True,
        "unfinished": "",
        "matches": True,
        "digests": {},
        "images": {"api": "a:1"},
        "live_images": {"api": "a@sha256:1"},
    }
    return {"app_admitted": {**result, **changes}}


FIRST = admitted(digests={"a:1": "a@sha256:1"})


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        (admitted(), False),
        (admitted(matches=False), True),
        (admitted(unfinished="committed"), True),
        (admitted(live_images={"api": "a@sha256:0"}), True),
        (admitted(live_images={}), True),
    ],
)
def test_a_deploy_has_work_when_any_host_differs(second: dict[str, Any], expected: bool) -> None:
    assert filters.changes({"app-1": FIRST, "app-2": second}, ["app-1", "app-2"]) is expected


def test_a_tag_that_moved_is_work() -> None:
    moved = admitted(digests={"a:1": "a@sha256:2"})
    assert filters.changes({"app-1": moved}, ["app-1"]) is True


def test_every_failed_host_is_explained_and_no_other() -> None:
    hostvars = {
        "app-1": {"app_prepared": {"ok": True}},
        "app-2": {"app_prepared": {"ok": False, "explanation": "crashed"}},
        "app-3": {"app_prepared": {"skipped": True}},
        "app-4": {},
    }
    text = filters.explain(hostvars, list(hostvars), ["app_prepared", "app_committed"], "notes")
    assert text == "notes on app-2:\ncrashed"


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [([], []), (["a"], [["a"]]), (["a", "b", "c"], [["a"], ["b", "c"]])],
)
def test_the_canary_goes_first(hosts: list[str], expected: list[list[str]]) -> None:
    assert filters.batches(hosts) == expected


def test_only_the_stacks_of_a_host_take_its_memory() -> None:
    assert filters.stack_memory(["app", "postgres"], 512, 256, 128) == {"nginx": 128, "postgres": 512}
