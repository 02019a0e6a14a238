"""Until when the images of the stacks are mended by their makers, and what to say of one that is not.

BRANCHES is the one source of docs/reference/images.md and of what `validate.yml` warns of;
tests/unit/test_image_support.py holds the roles' defaults and that page against it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from .inventory import Sources
from .problem import Problem
from .resolve.images import parse
from .roles import roles_of

# A warning begins so many days before the end.
DAYS = 90
PAGE = "docs/reference/images.md"
_TEMPLATE = re.compile(r"\{\{ *(\w+) *\}\}")


@dataclass(frozen=True)
class Branch:
    """A branch of versions that its maker mends together.

    image: the last part of the image's name, so that a mirror's is the same.  tag: how its tags begin, up to a dot or
    dash.  ends: the last day; None where the maker names none.  source: who says so.
    """

    image: str
    tag: str
    ends: date | None
    source: str


_NGINX = "nginx.org/news.html; a stable branch ends with the next one, each April: no day is promised"
_MAINLINE = "nginx.org/news.html; a mainline branch ends when the next one begins, after April: no day is promised"
_HAPROXY = "haproxy.org, whose ends are quarters: their first day"
_REDIS = "redis.io/docs, version management"
_POSTGRES = "postgresql.org/support/versioning"
_CRS = "github.com/coreruleset/coreruleset, SECURITY.md"

BRANCHES = (
    Branch("nginx", "1.26", date(2025, 4, 23), _NGINX),
    Branch("nginx", "1.27", date(2025, 6, 24), _MAINLINE),
    Branch("nginx", "1.28", date(2026, 4, 30), _NGINX),
    Branch("nginx", "1.29", date(2026, 5, 31), _MAINLINE),
    Branch("nginx", "1.30", date(2027, 4, 30), _NGINX),
    Branch("nginx", "1.31", date(2027, 4, 30), _MAINLINE),
    Branch("modsecurity-crs", "4.18", date(2025, 11, 10), _CRS),
    Branch("modsecurity-crs", "4.25", date(2027, 9, 30), _CRS),
    Branch("haproxy", "3.0", date(2029, 4, 1), _HAPROXY),
    Branch("haproxy", "3.1", date(2026, 1, 1), _HAPROXY),
    Branch("haproxy", "3.2", date(2030, 4, 1), _HAPROXY),
    Branch("haproxy", "3.3", date(2027, 1, 1), _HAPROXY),
    Branch("haproxy", "3.4", date(2031, 4, 1), _HAPROXY),
    Branch("postgres", "15", date(2027, 11, 11), _POSTGRES),
    Branch("postgres", "17", date(2029, 11, 8), _POSTGRES),
    Branch("redis", "7", date(2029, 12, 1), _REDIS),
    Branch("redis", "7.0", date(2024, 7, 29), _REDIS),
    Branch("redis", "8", None, _REDIS),
    Branch("debian", "trixie", date(2028, 8, 9), "debian.org/releases"),
)


@dataclass(frozen=True)
class Used:
    """An image that a host runs: the role's variable, what it comes to, and what the role has by default."""

    variable: str
    image: str
    default: str


def branch_of(image: str) -> Branch | None:
    """The branch that a reference belongs to, the closest one; None where none is known."""
    reference = parse(image)
    if reference is None:
        return None
    name, tag = reference.name.rpartition("/")[2], re.split(r"[.-]", reference.tag)
    found = [one for one in BRANCHES if one.image == name and tag[: one.tag.count(".") + 1] == one.tag.split(".")]
    return max(found, key=lambda one: len(one.tag), default=None)


def trouble(image: str, today: date) -> str:
    """What is wrong with a reference's support; empty where nothing is, or where nobody knows the image."""
    reference, branch = parse(image), branch_of(image)
    if reference is None or reference.name.rpartition("/")[2] not in {one.image for one in BRANCHES}:
        return ""
    if branch is None:
        return f"{image}: nobody knows until when that version is mended ({PAGE})"
    left = (branch.ends - today).days if branch.ends else DAYS + 1
    if left < 0:
        return f"{image} has been out of support since {branch.ends}: holes that are found in it stay open"
    return f"{image} leaves support on {branch.ends}, in {left} days" if left <= DAYS else ""


def used(groups: Iterable[str], variables: Mapping[str, Any], roles: Mapping[str, Mapping[str, Any]]) -> Iterator[Used]:
    """The images of a host's stacks, as its roles have it where the inventory is silent.

    variables: of the host.  roles: role → variable → specification.
    """
    for role in roles_of(groups):
        specs = roles.get(role, {})

        def value(name: str, specs: Mapping[str, Any] = specs) -> Any:
            return variables.get(name, specs.get(name, {}).get("default", ""))

        for name, spec in specs.items():
            if name.endswith("_image") and IN_USE.get(name, _always)(value):
                yield Used(name, _filled(str(value(name)), value), _filled(str(spec.get("default", "")), value))


def _filled(text: str, value: Callable[[str], Any]) -> str:
    """A default with the values of other variables of its role in it."""
    return _TEMPLATE.sub(lambda found: str(value(found[1])), text)


def _has_firewall(value: Callable[[str], Any]) -> bool:
    # YAML reads `off` as false.
    return str(value("nginx_waf")).lower() not in ("off", "false")


def _always(_: Callable[[str], Any]) -> bool:
    return True


# Images that run on a condition: the role's variables by name → whether.
IN_USE: Mapping[str, Callable[[Callable[[str], Any]], bool]] = {
    "nginx_image": lambda value: not _has_firewall(value),
    "nginx_waf_image": _has_firewall,
    "postgres_pooler_image": lambda value: bool(value("postgres_pooler")),
}


def problems(images: Iterable[Used], today: date, sources: Sources, command: str) -> Iterator[Problem]:
    """A warning for each image that is near the end of its support, or past it. command: ends what to run next."""
    for one in dict.fromkeys(images):
        if not (what := trouble(one.image, today)):
            continue
        provision = f"ansible-playbook playbooks/provision.yml{command}"
        better = one.default if one.default != one.image and not trouble(one.default, today) else ""
        change = (
            f"set {one.variable}: {better}" if better else f"set {one.variable} to a branch that is supported ({PAGE})"
        )
        yield Problem(
            sources.find(one.variable) or "the role's default", one.variable, what, f"{change}, then {provision}"
        )


def markdown(defaults: Mapping[str, str]) -> str:
    """The table for docs/reference/images.md. defaults: variable → image."""
    rows = []
    for one in BRANCHES:
        of = ", ".join(f"`{name}`" for name, image in sorted(defaults.items()) if branch_of(image) == one)
        rows.append(f"| `{one.image}` | {one.tag} | {one.ends or 'no day is named'} | {of} | {one.source} |")
    return "\n".join(
        ["| image | branch | supported until | default of | who says so |", "|---|---|---|---|---|", *rows]
    )
