"""The small notations of Compose: dollars, durations, sizes, variables."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from ..problem import Problem

_DOLLARS = re.compile(r"\$\$|\$")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)(?:i?b)?", re.IGNORECASE)
_UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}

# Names that steer Compose, the engine's client or Flotilla itself when they are in the environment.
_RESERVED = ("COMPOSE_", "DOCKER_", "FLOTILLA_", "BUILDKIT_")
_RESERVED_NAMES = frozenset({"PATH", "HOME", "LC_ALL", "VERSION"})


def escape(value: Any) -> Any:
    """The same structure with every dollar of its strings doubled, those that are double already left alone."""
    if isinstance(value, str):
        return _DOLLARS.sub("$$", value)
    if isinstance(value, dict):
        return {key: escape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [escape(item) for item in value]
    return value


def unescape(text: str) -> str:
    """What a Compose string means: `$$` is one dollar."""
    return text.replace("$$", "$")


def seconds(duration: object) -> float:
    """The seconds of a Compose duration such as `1m30s`. Raises ValueError for anything else."""
    if isinstance(duration, (int, float)) and not isinstance(duration, bool):
        return duration / 1e9  # a number is nanoseconds, as in Go
    text = str(duration).strip()
    if text == "0":
        return 0.0
    parts = _DURATION_PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is not a duration such as 30s or 1m30s")
    return float(sum(float(number) * _SECONDS[unit] for number, unit in parts))


def size(value: object) -> int:
    """The bytes of a Compose size such as `64m` or `"67108864"`. Raises ValueError for anything else."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return int(value)
    match = _SIZE.fullmatch(str(value).strip())
    if not match:
        raise ValueError(f"{value!r} is not a size such as 64m or 1gb")
    return int(float(match[1]) * 1024 ** _UNITS[match[2].lower()])


def environment_problems(app: str, variables: Iterable[str], inventory: str = "inventory") -> list[Problem]:
    """What is wrong with the names in `apps[<app>].environment`.

    The values go to Compose as its process environment, so a name that steers Compose would change
    what is deployed.
    """
    problems = []
    for name in variables:
        where = f"apps[{app}].environment.{name}"
        if not _NAME.fullmatch(name):
            what, fix = "is not a variable name", "use letters, digits and underscores, no digit first"
            problems.append(Problem(inventory, where, what, fix))
        elif name == "VERSION":
            what, fix = "VERSION is the app's version", f"remove it and set apps[{app}].version"
            problems.append(Problem(inventory, where, what, fix))
        elif name.startswith(_RESERVED) or name in _RESERVED_NAMES:
            what = "would change how Compose, Docker or Flotilla itself runs"
            fix = "remove it, or give the variable another name here and in the Compose file"
            problems.append(Problem(inventory, where, what, fix))
    return problems
