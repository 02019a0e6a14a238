"""What is said of the images that a host runs, and which of them may not take another one's place."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from flotilla import overview, patching
from flotilla.patching import Found, Reboot
from flotilla.stack_images import STACKS, Image, days_since, epoch, refusal, tagged

ROOT = Path(__file__).resolve().parents[2]
OLD, NEW = (f"sha256:{letter * 64}" for letter in "ab")
NGINX = Image("nginx", "nginx:1.30", digests=(OLD,), newest=OLD)


@pytest.mark.parametrize(
    ("image", "due"),
    [
        (NGINX, ""),
        (replace(NGINX, newest=NEW), "nginx (nginx:1.30 has a newer build)"),
        # A host that has never asked a registry: it was loaded, or built by hand.
        (replace(NGINX, digests=(), newest=NEW), "nginx (nginx:1.30 has a newer build)"),
        (replace(NGINX, newest="", note="the registry registry.example.com cannot be reached"), ""),
        (replace(NGINX, image=f"nginx:1.30@{OLD}", newest=NEW), ""),
        (replace(NGINX, moved=True), "nginx (it runs an older build of nginx:1.30 than the host has)"),
        (
            Image("postgres", "postgres:17", "flotilla/postgres:1", packages=("pgbackrest",)),
            "postgres (newer: pgbackrest)",
        ),
        # An app's is the next deploy's.
        (replace(NGINX, what="notes api", newest=NEW), ""),
    ],
)
def test_when_an_image_is_due(image: Image, due: str) -> None:
    assert image.due == due
    assert image.as_data()["due"] == due


def test_a_newer_build_of_a_pin_is_seen_all_the_same() -> None:
    assert replace(NGINX, image=f"nginx:1.30@{OLD}", newest=NEW).newer


def test_times() -> None:
    now = epoch("2026-11-30T12:00:00Z")
    assert days_since(epoch("2026-11-18T07:01:02.123456789Z"), now) == 12
    assert days_since(epoch("2026-12-01T00:00:00Z"), now) == 0
    assert days_since(epoch("0001-01-01T00:00:00Z"), now) is None
    assert days_since(epoch("long ago"), now) is None
    assert tagged(f"nginx:1.30@{OLD}") == "nginx:1.30"


BOOKWORM, TRIXIE = ("ID=debian\nVERSION_CODENAME=bookworm\n", 'ID=debian\nVERSION_CODENAME="trixie"\n')


@pytest.mark.parametrize(
    ("stack", "old", "new", "refused"),
    [
        ("postgres", BOOKWORM, TRIXIE, True),
        ("postgres", BOOKWORM, "", True),
        ("postgres", TRIXIE, TRIXIE, False),
        ("postgres", "", "", False),
        ("nginx", BOOKWORM, TRIXIE, False),
    ],
)
def test_a_database_does_not_change_the_order_of_its_texts(stack: str, old: str, new: str, refused: bool) -> None:
    said = refusal(stack, "postgres:17", old, new)
    assert bool(said) == refused
    if refused:
        assert "Next: set postgres_image: postgres:17-bookworm" in said


def data(*images: Image) -> list[dict[str, object]]:
    return [one.as_data() for one in images]


def test_what_is_due_is_work_and_what_is_not_known_is_said() -> None:
    newer, mute = (
        replace(NGINX, newest=NEW),
        Image("redis", "redis:7", note="the registry registry.example.com cannot be reached"),
    )
    what = patching.with_images(Found((), False, ()), data(newer, mute, Image("notes api", "team/notes", note="none")))
    assert patching.due(what, Reboot.NEVER)
    assert patching.summary(what, Reboot.NEVER) == (
        "renew nginx (nginx:1.30 has a newer build); redis: the registry registry.example.com cannot be reached"
    )
    nothing = patching.with_images(Found((), False, ()), data(NGINX, mute))
    assert not patching.due(nothing, Reboot.NEVER)
    assert patching.summary(nothing, Reboot.NEVER).startswith("nothing to do; redis: the registry")


def test_each_stack_has_tasks_that_renew_it() -> None:
    every = [Image(stack, "x:1", moved=True) for stack in STACKS]
    roles = [(one["role"], one["tasks"]) for one in patching.stacks_due(data(*every))]
    assert roles == [
        *((stack, "renew") for stack in ("haproxy", "nginx", "redis", "postgres")),
        ("postgres", "pooler_renew"),
    ]
    assert [(ROOT / "roles" / role / f"tasks/{tasks}.yml").is_file() for role, tasks in roles] == [True] * 5
    assert patching.stacks_due(data(NGINX)) == []


def test_the_first_host_s_word_of_a_registry_is_all_hosts() -> None:
    first, second = replace(NGINX, newest=NEW), replace(NGINX, newest=OLD)
    hosts = [{}, {"patch_images": data(first)}, {"patch_images": data(second, Image("redis", "redis:7"))}]
    assert patching.digests(hosts) == {"nginx:1.30": NEW}


def test_how_old_everything_is_and_what_registries_have() -> None:
    here = [
        replace(NGINX, days=12, base_days=30, newest=NEW),
        replace(NGINX, what="haproxy", image=f"haproxy:3.0@{OLD}", days=400, base_days=410, newest=NEW),
        Image("redis", "redis:7", days=1, note="the registry registry.example.com cannot be reached (timeout)"),
        Image("postgres", "postgres:17", "flotilla/postgres:1", digests=(OLD,), newest=OLD, days=1, base_days=9),
        Image("notes api", "registry.example.com/acme/notes", "", "", 3, 200, "debian:trixie-slim", (OLD,), NEW),
        Image("notes web", "registry.example.com/acme/web", days=3),
    ]
    lines = overview.images({"app-1": {"images": data(*here)}, "app-2": {"msg": "no engine"}})
    assert [re.sub(" +", " ", line) for line in lines] == [
        "images",
        " host what image age its lowest layer in the registry",
        " app-1 nginx nginx:1.30 12 days 30 days a newer build: playbooks/patch.yml",
        f" app-1 haproxy haproxy:3.0@{OLD[:19]} 400 days 410 days a newer build, and it is named with its digest",
        " app-1 redis redis:7 1 days not known the registry registry.example.com cannot be reached (timeout)",
        " app-1 postgres flotilla/postgres:1 1 days 9 days the newest of its base postgres:17",
        " app-1 notes api registry.example.com/acme/notes 3 days 200 days a newer build of its base debian:trixie-slim",
        " app-1 notes web registry.example.com/acme/web 3 days not known -",
        " app-2: its images are not known: no engine",
    ]
