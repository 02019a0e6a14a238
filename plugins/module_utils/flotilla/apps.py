"""The inventory's list `apps`: its keys, their types and defaults, and which of them a command deploys."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .problem import Problem, did_you_mean

NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
# A tag as the registry's protocol has it: https://distribution.github.io/distribution/spec/api/
VERSION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
DOMAIN = re.compile(r"(?:\*\.)?(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
PLACE = re.compile(r"controller|host")
# /opt/flotilla is the stacks', `<app>-<suffix>` are an app's Compose projects and networks, and so is
# `<app>-<colour>-<network>`.
RESERVED = "flotilla"
RESERVED_SUFFIXES = ("-blue", "-green", "-data", "-migration")
# Never part of a result: they may hold secrets.
PRIVATE = ("environment", "secrets")

Where = Callable[[str], str]


@dataclass(frozen=True)
class Key:
    """One key of a mapping.

    `kind` is str, int, bool, number, path, list (of str), ints, map, numbers (a map of int), lists
    (a map of lists), or object(s) with `keys`.
    """

    kind: str
    required: bool = False
    default: Any = None
    least: float = 0
    keys: Mapping[str, Key] = field(default_factory=dict)
    pattern: re.Pattern[str] | None = None


# The defaults of a route are the router's: see the filter `flotilla_routes`.
ROUTE = {
    "path": Key("path", required=True),
    "service": Key("str", required=True),
    "port": Key("int", required=True, least=1),
    "strip_prefix": Key("bool"),
    "cors_origins": Key("list"),
    "cors_credentials": Key("bool"),
    "cache_seconds": Key("int"),
    "timeout_seconds": Key("int", least=1),
    "websocket": Key("bool"),
    "spa": Key("bool"),
    "rate_limit": Key(
        "object",
        keys={
            "requests_per_second": Key("int", least=1),
            "requests_per_minute": Key("int", least=1),
            "burst": Key("int"),
        },
    ),
    "upload_limit_mb": Key("int", least=1),
    "clear_site_data": Key("bool"),
}
HOOK = {
    "command": Key("str"),
    "tasks": Key("str"),
    "where": Key("str", default="controller", pattern=PLACE),
    "timeout_seconds": Key("int", default=60, least=1),
}
HOOKS = {
    point: Key("objects", default=[], keys=HOOK)
    for point in ("before_deploy", "after_deploy", "on_failure", "on_rollback")
}
APP = {
    "name": Key("str", required=True, pattern=NAME),
    "source": Key("str", required=True),
    "version": Key("str", pattern=VERSION),
    "domains": Key("list", default=[], pattern=DOMAIN),
    "routes": Key("objects", required=True, keys=ROUTE),
    "readiness": Key("object", default={}, keys={"path": Key("path", default="/")}),
    "environment": Key("map", default={}),
    "secrets": Key("map", default={}, pattern=VARIABLE),
    "migration": Key(
        "object",
        keys={
            "service": Key("str", required=True),
            "timeout_seconds": Key("int", default=600, least=1),
            "compatible": Key("bool", default=True),
        },
    ),
    "workers": Key("list", default=[]),
    "shared": Key("list", default=[]),
    "per_colour": Key("list", default=[]),
    "shared_paths": Key("list", default=[]),
    "backup_volumes": Key("list", default=[]),
    "routes_without_health_check": Key("list", default=[]),
    "privileges": Key("lists", default={}),
    "secret_variables": Key("lists", default={}),
    "database_connections": Key("numbers", default={}),
    "deadlines": Key(
        "object",
        default={},
        keys={
            "ready_seconds": Key("int", default=120, least=1),
            "drain_seconds": Key("int", default=30),
            "pull_seconds": Key("int", default=600, least=1),
        },
    ),
    "hooks": Key("object", default={}, keys=HOOKS),
    "keep_releases": Key("int", default=3, least=1),
    "upload_limit_mb": Key("int", default=25, least=1),
    "security_headers": Key("map"),
    "rate_limit": Key(
        "object",
        default={},
        keys={
            "requests_per_second": Key("int", default=50, least=1),
            "burst": Key("int", default=100),
        },
    ),
    "waf": Key("object", keys={"excluded_rules": Key("ints"), "excluded_paths": Key("list")}),
}
ALLOWED = {
    PLACE: "write controller or host",
    NAME: "write lower-case letters, digits and -, a letter first, 31 at most",
    VERSION: "write a tag of the image: letters, digits, dots, _ and -, 128 at most",
    VARIABLE: "write letters, digits and _, no digit first",
    DOMAIN: "write a host name such as www.example.com, in lower case",
}
WORDS = {
    "str": "a text",
    "int": "a whole number",
    "bool": "true or false",
    "path": "a path that begins with /",
    "list": "a list of texts",
    "ints": "a list of whole numbers",
    "map": "a mapping of names to values",
    "numbers": "a mapping of names to whole numbers",
    "lists": "a mapping of names to lists of texts",
    "object": "a mapping",
    "objects": "a list of mappings",
}


def check_apps(apps: Any, where: Where) -> list[Problem]:
    """Everything that is wrong with the shape of `apps`. `where` gives the place of a key."""
    if not isinstance(apps, list) or not apps:
        return [
            Problem(
                where("apps"),
                "apps",
                "is not a list with an app in it",
                "copy the example in docs/reference/inventory.md",
            )
        ]
    problems: list[Problem] = []
    for index, app in enumerate(apps):
        label = f"apps[{app.get('name', index) if isinstance(app, dict) else index}]"
        problems += _check_object(label, app, APP, where)
    names = [app.get("name") for app in apps if isinstance(app, dict)]
    for name in sorted({str(name) for name in names if name and names.count(name) > 1}):
        problems.append(Problem(where("apps"), f"apps[{name}]", "is there twice", "give each app a name of its own"))
    for name in sorted({str(name) for name in names if name}):
        if name == RESERVED or name.endswith(RESERVED_SUFFIXES) or re.search(r"-(?:blue|green)-", name):
            what = f"`{name}` is a name that Flotilla itself uses on the hosts"
            problems.append(Problem(where("apps"), f"apps[{name}].name", what, "choose another name"))
    return problems + _check_domains(apps, where)


def _check_domains(apps: Sequence[Any], where: Where) -> list[Problem]:
    owners: dict[str, str] = {}
    problems = []
    for app in apps:
        domains = app.get("domains") if isinstance(app, dict) else None
        for domain in domains if isinstance(domains, list) else []:
            name = str(app.get("name"))
            owner = owners.setdefault(str(domain), name)
            if owner != name:
                what = f"`{domain}` is a domain of `{owner}` too"
                problems.append(Problem(where("domains"), f"apps[{name}].domains", what, "remove it from one of them"))
    return problems


def _check_object(label: str, value: Any, keys: Mapping[str, Key], where: Where) -> list[Problem]:
    if not isinstance(value, Mapping):
        return [Problem(where("apps"), label, "is not a mapping", "indent its keys below it")]
    problems = []
    for name in value:
        if name not in keys:
            what = f"is not a key that is known here{did_you_mean(str(name), keys)}"
            problems.append(Problem(where(str(name)), f"{label}.{name}", what, f"use one of: {', '.join(keys)}"))
    for name, key in keys.items():
        if name in value:
            problems += _check_value(f"{label}.{name}", name, value[name], key, where)
        elif key.required:
            problems.append(
                Problem(where("apps"), f"{label}.{name}", "is missing", f"add `{name}:` ({WORDS[key.kind]})")
            )
    return problems


def _check_value(label: str, name: str, value: Any, key: Key, where: Where) -> list[Problem]:
    if not _is_a(value, key.kind):
        fix = f"write {WORDS[key.kind]}"
        if key.kind == "str" and isinstance(value, (int, float)):
            fix = f'write it in quotes: {name}: "{value}" (without them 1.10 is 1.1)'
        return [Problem(where(name), label, f"is not {WORDS[key.kind]}", fix)]
    if key.kind == "object":
        return _check_object(label, value, key.keys, where)
    if key.kind == "objects":
        return [
            problem
            for index, item in enumerate(value)
            for problem in _check_object(f"{label}[{index}]", item, key.keys, where)
        ]
    if key.kind == "int" and value < key.least:
        return [Problem(where(name), label, f"is {value}, less than {key.least:g}", f"write {key.least:g} or more")]
    texts = list(value) if key.kind in ("list", "map") else [value]
    return [
        Problem(where(name), label, f"`{text}` is not allowed here", ALLOWED[key.pattern])
        for text in texts
        if key.pattern and not key.pattern.fullmatch(text)
    ]


def _is_a(value: Any, kind: str) -> bool:
    if kind in ("str", "path"):
        return isinstance(value, str) and (kind == "str" or value.startswith("/"))
    if kind == "int":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "bool":
        return isinstance(value, bool)
    if kind == "ints":
        return isinstance(value, list) and all(_is_a(item, "int") for item in value)
    if kind in ("list", "objects"):
        return isinstance(value, list) and (kind == "objects" or all(isinstance(item, str) for item in value))
    if kind == "numbers":
        return _is_a(value, "map") and all(_is_a(item, "int") and item >= 0 for item in value.values())
    if kind == "lists":
        return _is_a(value, "map") and all(_is_a(item, "list") for item in value.values())
    return isinstance(value, Mapping) and all(isinstance(item, str) for item in value)


def with_defaults(app: Mapping[str, Any]) -> dict[str, Any]:
    """A checked app with every default filled in, without the keys that may hold secrets."""
    return {name: value for name, value in _filled(app, APP).items() if name not in PRIVATE}


def _filled(value: Mapping[str, Any], keys: Mapping[str, Key]) -> dict[str, Any]:
    filled: dict[str, Any] = {}
    for name, key in keys.items():
        given = value.get(name, key.default)
        if given is None:
            continue
        if key.kind == "object":
            given = _filled(given, key.keys)
        elif key.kind == "objects":
            given = [_filled(item, key.keys) for item in given]
        filled[name] = given
    return filled


def select(
    apps: Sequence[Mapping[str, Any]],
    app: str | None,
    version: Any,
    allow_latest: bool,
    where: Where,
    command: str,
) -> tuple[list[dict[str, Any]], list[Problem]]:
    """The apps that a command deploys, each with the version it gets, and what is wrong with the choice.

    `app` and `version` are the command line's; `command` is the one to show in messages.
    """
    names = [str(entry["name"]) for entry in apps]
    here = "command line"
    if app is not None and app not in names:
        what = f"there is no app `{app}`{did_you_mean(app, names)}"
        return [], [Problem(here, "app", what, f"{command} -e app={names[0]} (apps: {', '.join(names)})")]
    if version is not None and not isinstance(version, str):
        return [], [
            Problem(
                here,
                "version",
                "is a number, not a text",
                f"{command} -e version={version} (as name=value, not as JSON)",
            )
        ]
    if version is not None and app is None and len(names) > 1:
        what = f"is given, but not which of the apps gets it ({', '.join(names)})"
        return [], [Problem(here, "version", what, f"{command} -e app={names[0]} -e version={version}")]
    chosen = [dict(entry) for entry in apps if app in (None, entry["name"])]
    problems = []
    for entry in chosen:
        name = entry["name"]
        place, variable = (here, "version") if version is not None else (where("version"), f"apps[{name}].version")
        entry["version"] = version if version is not None else entry.get("version")
        which = f" -e app={name}" if len(names) > 1 else ""
        again = f"{command}{which} -e version=<tag>"
        if not entry["version"]:
            problems.append(Problem(where("apps"), f"apps[{name}].version", "no version is given", again))
        elif not VERSION.fullmatch(entry["version"]):
            problems.append(Problem(place, variable, f"`{entry['version']}` cannot be an image's tag", again))
        elif entry["version"] == "latest" and not allow_latest:
            what = (
                "`latest` is forbidden in this environment (environment_allow_latest): it names another image tomorrow"
            )
            problems.append(Problem(place, variable, what, again))
    return chosen, problems


def select_served(
    apps: Sequence[Mapping[str, Any]], app: str | None, command: str, *, one: bool
) -> tuple[list[dict[str, Any]], list[Problem]]:
    """The apps that a run is about, without a version: the hosts know which there were. one: as a rollback wants it."""
    names = [str(entry["name"]) for entry in apps]
    example = f"{command} -e app={names[0]} (apps: {', '.join(names)})"
    if one and app is None and len(names) > 1:
        return [], [Problem("command line", "app", f"is not given, and there are {len(names)} apps", example)]
    if app is not None and app not in names:
        return [], [Problem("command line", "app", f"there is no app `{app}`{did_you_mean(app, names)}", example)]
    chosen = [entry for entry in apps if app in (None, entry["name"])]
    return [{key: value for key, value in entry.items() if key != "version"} for entry in chosen], []


def names_of(app: Mapping[str, Any], key: str) -> Iterable[str]:
    """The names below `environment` or `secrets`, without their values."""
    return list(app.get(key) or {})
