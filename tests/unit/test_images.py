"""Image references, and the tags that keep a release's images on a host."""

from __future__ import annotations

import re
from typing import cast

import pytest
from flotilla.apps import NAME
from flotilla.engine import Engine
from flotilla.images import keep, prune_images
from flotilla.resolve.images import Reference, keep_tag, parse
from flotilla.store import Release
from hypothesis import example, given
from hypothesis import strategies as st

DIGEST = f"sha256:{'a' * 64}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nginx", Reference("nginx", "", "")),
        ("nginx:1.30", Reference("nginx", "1.30", "")),
        (f"nginx@{DIGEST}", Reference("nginx", "", DIGEST)),
        (f"nginx:1.30@{DIGEST}", Reference("nginx", "1.30", DIGEST)),
        ("registry.example.com:5000/team/app", Reference("registry.example.com:5000/team/app", "", "")),
        ("localhost:5000/app:x_1", Reference("localhost:5000/app", "x_1", "")),
        ("[::1]:5000/app:1", Reference("[::1]:5000/app", "1", "")),
        ("a/b__c/d--e.f:1", Reference("a/b__c/d--e.f", "1", "")),
    ],
)
def test_a_reference_is_taken_apart(text: str, expected: Reference) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    "text", ["", ":", "app:", "app:a b", "App:1", "a//b", "-a", "app@sha256:12", f"app:{'x' * 129}", "a:1\n"]
)
def test_what_is_no_reference(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize(
    ("text", "moving"),
    [("app", True), ("app:latest", True), ("app:1", False), (f"app@{DIGEST}", False), (f"app:latest@{DIGEST}", False)],
)
def test_a_moving_image_is_one_that_may_change(text: str, moving: bool) -> None:
    reference = parse(text)
    assert reference and reference.moving is moving


@pytest.mark.parametrize(
    ("text", "owns"),
    [
        ("postgres:17", True),
        ("registry.example.com/mirror/postgres:17", True),
        ("bitnami/redis:7", True),
        ("team/postgres-exporter:1", False),
        ("nginx:1", False),
    ],
)
def test_a_well_known_database_is_known_by_the_last_part_of_its_name(text: str, owns: bool) -> None:
    reference = parse(text)
    assert reference and reference.owns_data is owns


def test_the_keep_tag_names_app_service_and_release() -> None:
    assert keep_tag("notes", "api", "20260102T030405Z-1.0.0") == "flotilla/notes/api:20260102T030405Z-1.0.0"


@pytest.mark.parametrize("version", ["1.0+build", "1.0_build", "feature/x", "x" * 300, "y" * 128, "-", ""])
def test_the_keep_tag_is_legal_for_any_release(version: str) -> None:
    reference = parse(keep_tag("notes", "api", f"20260102T030405Z-{version}"))
    assert reference and reference.name == "flotilla/notes/api"


_services = st.from_regex(re.compile(r"[A-Za-z0-9._-]{1,40}"), fullmatch=True)


_kept = st.tuples(st.from_regex(NAME, fullmatch=True), _services, st.text(max_size=60))


@given(st.lists(_kept, min_size=2, max_size=2, unique=True))
@example([("a-b", "c", "1"), ("a", "b-c", "1")])
@example([("a-", "c", "1"), ("a", "-c", "1")])
def test_two_keep_tags_never_meet(kept: list[tuple[str, str, str]]) -> None:
    first, second = (keep_tag(*one) for one in kept)
    assert first != second
    assert parse(first) and parse(second)


class Tags:
    """An engine that knows names of images alone."""

    def __init__(self, *names: str) -> None:
        self.names = set(names)

    def tag(self, reference: str, repository: str, tag: str) -> None:
        self.names.add(f"{repository}:{tag}")

    def untag(self, reference: str) -> None:
        self.names.discard(reference)

    def image(self, _reference: str) -> None:
        return None


def test_a_release_of_one_app_is_not_kept_and_pruned_as_that_of_another() -> None:
    """Both of one run, with one version: they have one id."""
    engine, identity = cast("Engine", tags := Tags()), "20260102T030405Z-1.0.0"
    keep(engine, "a-b", identity, {"c": "x@sha256:1"})
    keep(engine, "a", identity, {"b-c": "y@sha256:2"})
    assert len(tags.names) == 2
    prune_images(engine, "a", Release(identity, "1.0.0", "", "", {"b-c": "y@sha256:2"}))
    assert tags.names == {keep_tag("a-b", "c", identity)}


def test_a_tag_of_before_is_pruned_with_its_release() -> None:
    engine = cast("Engine", tags := Tags("flotilla/notes-api:1", "flotilla/notes-api:2"))
    prune_images(engine, "notes", Release("1", "1.0.0", "", "", {"api": "x@sha256:1"}))
    assert tags.names == {"flotilla/notes-api:2"}


@given(st.text(alphabet="ab_-./:@", max_size=80))
def test_parsing_any_text_ends(text: str) -> None:
    reference = parse(text)
    assert reference is None or text.startswith(reference.name)
