"""Until when the stacks' images are mended: the table, the defaults and the page agree, and who is told what."""

from __future__ import annotations

import re
from datetime import date, timedelta
from pathlib import Path

import pytest
from flotilla.image_support import BRANCHES, DAYS, Used, branch_of, markdown, problems, trouble, used
from flotilla.inventory import Sources
from flotilla.roles import options

ROOT = Path(__file__).resolve().parents[2]
ROLES = options(ROOT / "roles")
EVERY_GROUP = ("app", "postgres", "redis", "loadbalancer", "backup")
ALL_ON = {"nginx_waf": "on", "postgres_pooler": True}
DIGEST = "sha256:" + "0" * 64
# Where an image is named that a host runs.
PLACES = (
    "roles/*/defaults/main.yml",
    "roles/*/tasks/*.yml",
    "compose/*/compose*.yaml",
    "compose/*/.env.example",
    "compose/*/Dockerfile",
    "plugins/module_utils/flotilla/**/*.py",
    "inventories/**/*.yml",
)
KNOWN = "nginx|haproxy|postgres|redis|debian|modsecurity-crs"
NAMED = re.compile(rf"(?<![\w/.-])(?:[\w.-]+/)*(?:{KNOWN}):[a-z0-9][\w.-]*\b")
# The page of the table, and the app of the sample, whose own image it is.
OTHERS = ("image_support.py", "compose/app/")


def defaults() -> dict[str, str]:
    found = {*used(EVERY_GROUP, ALL_ON, ROLES), *used(EVERY_GROUP, {}, ROLES)}
    return {one.variable: one.image for one in found}


def test_every_image_of_a_role_has_a_supported_default() -> None:
    """A new variable for an image needs a row; the day is that of the look-ups, so that no test fails by itself."""
    named = {name for role in ROLES.values() for name in role if name.endswith("_image")}
    assert set(defaults()) == named
    assert {name: trouble(image, date(2026, 11, 30)) for name, image in defaults().items()} == dict.fromkeys(named, "")
    assert all(branch_of(image) for image in defaults().values())


def test_no_other_image_is_named_anywhere() -> None:
    """An image that somebody writes down in a task or a Compose file is one of the table, and a default."""
    files = [
        file for place in PLACES for file in sorted(ROOT.glob(place)) if not any(one in str(file) for one in OTHERS)
    ]
    assert len(files) > 50
    found = {
        (str(file.relative_to(ROOT)), image)
        for file in files
        for image in NAMED.findall(file.read_text())
        if image not in defaults().values()
    }
    assert found == set()


def test_the_page_has_the_table() -> None:
    assert markdown(defaults()) in (ROOT / "docs/reference/images.md").read_text()


@pytest.mark.parametrize(
    ("image", "tag"),
    [
        ("nginx:1.30", "1.30"),
        ("nginx:1.30.7-alpine", "1.30"),
        (f"registry.example.com/mirror/nginx:1.30@{DIGEST}", "1.30"),
        ("redis:7.0.15", "7.0"),
        ("redis:7.4", "7"),
        ("debian:trixie-slim", "trixie"),
        ("owasp/modsecurity-crs:4.25.1-nginx-lts", "4.25"),
        ("nginx:1.3", None),
        ("nginx", None),
        (f"nginx@{DIGEST}", None),
        ("Not An Image", None),
    ],
)
def test_a_branch_is_known_by_the_beginning_of_a_tag(image: str, tag: str | None) -> None:
    branch = branch_of(image)
    assert (branch.tag if branch else None) == tag


@pytest.mark.parametrize(
    ("days", "said"),
    [
        (-1, "nginx:1.26 has been out of support since 2025-04-23: holes that are found in it stay open"),
        (0, "nginx:1.26 leaves support on 2025-04-23, in 0 days"),
        (DAYS, "nginx:1.26 leaves support on 2025-04-23, in 90 days"),
        (DAYS + 1, ""),
    ],
)
def test_when_a_warning_begins(days: int, said: str) -> None:
    assert trouble("nginx:1.26", date(2025, 4, 23) - timedelta(days=days)) == said


def test_what_nobody_knows_is_said_of_known_images_alone() -> None:
    today = date(2026, 11, 30)
    assert trouble("nginx:latest", today).startswith("nginx:latest: nobody knows until when that version is mended")
    assert trouble("registry.example.com/team/edge:2", today) == ""
    assert trouble("redis:8.10", today) == ""


def test_the_firewall_s_image_and_the_pooler_s_count_where_they_run() -> None:
    assert {one.variable for one in used(["app", "postgres"], {"nginx_waf": False}, ROLES)} == {
        "nginx_image",
        "app_router_image",
        "postgres_image",
    }
    on = {one.variable for one in used(["app", "postgres"], ALL_ON, ROLES)}
    assert on == {"nginx_waf_image", "app_router_image", "postgres_image", "postgres_pooler_image"}


def test_a_warning_names_the_file_the_variable_and_the_next_step(tmp_path: Path) -> None:
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars/all.yml").write_text("---\nnginx_image: nginx:1.26\n")
    images = list(used(["app"], {"nginx_image": "nginx:1.26"}, ROLES))
    (said,) = problems([*images, *images], date(2026, 11, 30), Sources((tmp_path,), tmp_path), " -i here")
    assert str(said) == (
        "group_vars/all.yml:2: nginx_image: nginx:1.26 has been out of support since 2025-04-23: holes that are found"
        " in it stay open. Next: set nginx_image: nginx:1.30, then ansible-playbook playbooks/provision.yml -i here"
    )
    late = Used("nginx_image", "nginx:1.30", "nginx:1.30")
    (said,) = problems([late], date(2030, 1, 1), Sources((), tmp_path), "")
    assert said.where == "the role's default"
    assert said.next.startswith("set nginx_image to a branch that is supported (docs/reference/images.md), then")


def test_no_branch_stands_twice() -> None:
    assert len({(one.image, one.tag) for one in BRANCHES}) == len(BRANCHES)
