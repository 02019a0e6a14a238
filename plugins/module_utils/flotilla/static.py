"""What can be said about a Compose file on the controller, with no Docker and before any host is touched.

Compose itself reads the file on the host and has the last word; what is refused here would be refused
there too. Where this module cannot know (an `include`, an `extends`), it says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from .problem import Problem, did_you_mean
from .resolve import keys, networks, privileges
from .resolve.findings import Findings
from .resolve.images import parse
from .resolve.model import Context, Route
from .resolve.mounts import Mounts
from .resolve.places import Place
from .resolve.places import named as named_places
from .resolve.secret_variables import check as check_secret_variables
from .resolve.services import check_health, check_image, refuse_links, refuse_ports
from .yaml_lines import YamlError, read_documents

_VARIABLE = re.compile(
    r"\$(?:(?P<escaped>\$)|(?P<named>[A-Za-z_]\w*)|\{(?P<braced>[A-Za-z_]\w*)(?P<rest>[^\w}][^}]*)?\})"
)
_MALFORMED = re.compile(r"(?<!\$)(?:\$\$)*\$\{(?![A-Za-z_]\w*(?:[}]|:?[-?+]))[^}]*\}?")

# In place of what only the inventory knows; and where relative paths are, which are not looked at.
_OPEN = "\0"
_NOWHERE = "/\0"


def static_problems(
    text: str,
    *,
    file: str,
    inventory: str,
    app: str,
    variables: Iterable[str] = (),
    secrets: Iterable[str] = (),
    routes: Sequence[Mapping[str, Any]] = (),
    migration: str | None = None,
    workers: Iterable[str] = (),
    shared: Iterable[str] = (),
    unchecked: Iterable[str] = (),
    privileges: Mapping[str, Sequence[str]] | None = None,
    secret_variables: Mapping[str, Sequence[str]] | None = None,
    backup_volumes: Iterable[str] = (),
    allow_latest: bool = False,
) -> list[Problem]:
    """Everything that is wrong with the text of a Compose file, each problem with its line.

    variables, secrets: the names in `apps[<app>].environment` and `.secrets`; with `VERSION` they are what
    `${…}` may use.  routes: as in the inventory.  unchecked: `routes_without_health_check`.
    privileges: service → what it may have of the host.  secret_variables: service → secrets it gets as variables.
    backup_volumes: keys of the volumes that are backed up.
    """
    try:
        documents = read_documents(text)
    except YamlError as error:
        where = f"{file}:{error.line}" if error.line else file
        return [Problem(where, "(syntax)", f"is not YAML: {error}", "correct the line, or the one before it")]
    if not documents:
        return [Problem(file, "services", "the file is empty", "write the app's services into it")]
    if len(documents) > 1:
        return []  # Compose merges the documents of one file; this module does not
    document = documents[0]

    findings = Findings(file, inventory, app)
    secrets = tuple(secrets)
    available = frozenset({*variables, *(name.upper().replace("-", "_") for name in secrets), "VERSION"})
    context = Context(
        app=app,
        source="/",
        base=f"/opt/{app}",
        file=file,
        inventory=inventory,
        routes=tuple(
            Route(str(route.get("path", "/")), str(route["service"]), int(route.get("port", 0)))
            for route in routes
            if route.get("service")
        ),
        migration=migration,
        workers=tuple(workers),
        shared=tuple(shared),
        unchecked=tuple(unchecked),
        secrets=secrets,
        secret_variables={name: tuple(items) for name, items in (secret_variables or {}).items()},
        privileges={name: tuple(items) for name, items in (privileges or {}).items()},
        allow_latest=allow_latest,
    )
    for path in document.repeated:
        findings.refuse(path, "is written twice", "keep one of the two")
    if isinstance(document.data, dict):
        _check(document.data, context, available, findings)
        _check_backup_volumes(document.data, backup_volumes, findings)
    else:
        findings.refuse("services", "the file is not a mapping", "begin it with `services:`")
    return [_located(problem, file, document.lines) for problem in findings.problems]


def service_names(text: str) -> list[str]:
    """The names of a Compose file's services, as far as they can be read."""
    try:
        documents = read_documents(text)
    except YamlError:
        return []
    found = [document.data.get("services") for document in documents if isinstance(document.data, dict)]
    return [str(name) for services in found if isinstance(services, dict) for name in services]


def _check(data: Mapping[str, Any], context: Context, available: frozenset[str], findings: Findings) -> None:
    keys.check({key: value for key, value in data.items() if key != "services"}, "", "", findings)
    services = data.get("services")
    whole = "include" not in data
    if not isinstance(services, dict) or not services:
        if whole:
            findings.refuse("services", "the file has no services", "add `services:` with one service at least")
        return
    places = named_places(services, context, findings) if whole else {}
    if whole:
        privileges.check(services, context, findings)
        check_secret_variables(services, context, findings)
    for name, service in services.items():
        if isinstance(service, dict):
            _check_service(name, service, places.get(name), context, available, findings)
        else:
            findings.refuse(f"services.{name}", "is not a mapping", "write the service's keys below it, indented")
    _check_mounts_and_networks(data, places, context, available, findings)
    _check_variables(data, available, findings)


def _check_service(
    name: str,
    service: Mapping[str, Any],
    place: Place | None,
    context: Context,
    available: frozenset[str],
    findings: Findings,
) -> None:
    keys.check(service, "services.*", f"services.{name}", findings)
    ports = {route.service: route.port for route in reversed(context.routes)}
    if _is_left_out(name, service, place, context) or "provider" in service:
        return
    if "extends" not in service:
        image = _filled(str(service.get("image") or ""), available)
        reference = parse(image)
        if place is None and reference is not None and reference.owns_data:
            place = Place.SHARED
        check_image(name, {**service, "image": image}, context, findings)
        if name in ports:
            check_health(name, service, ports[name], context, findings)
    privileges.refuse(name, _known(service, available), context, findings)
    entries = service.get("ports")
    if isinstance(entries, list):
        refuse_ports(name, {"ports": [_port(entry) for entry in entries]}, place or Place.COLOUR, context, findings)
    if isinstance(service.get("links"), list):
        refuse_links(name, service, findings)


def _is_left_out(name: str, service: Mapping[str, Any], place: Place | None, context: Context) -> bool:
    """Whether a service is in a profile and the inventory does not name it."""
    return bool(service.get("profiles")) and place is None and all(route.service != name for route in context.routes)


def _check_mounts_and_networks(
    data: Mapping[str, Any],
    places: Mapping[str, Place],
    context: Context,
    available: frozenset[str],
    findings: Findings,
) -> None:
    """What of the host and of other apps is mounted and joined, as far as the text says it without a host."""
    services = {
        name: service
        for name, service in data["services"].items()
        if isinstance(service, dict) and not _is_left_out(name, service, places.get(name), context)
    }
    sections = {key: _known(data.get(key), available) for key in ("volumes", "networks", "configs")}
    sections["configs"] = {key: item for key, item in sections["configs"].items() if _of_host(item)}
    long = {name: _long(_known(service, available), sections) for name, service in services.items()}
    config = {"name": context.app, "services": long, **sections}
    mounts = Mounts(config, replace(context, source=_NOWHERE), findings)
    for name, service in long.items():
        mounts.service_volumes(name, service, places.get(name, Place.COLOUR))
    mounts.config_section(long, Place.COLOUR)
    networks.colour_networks(config, context, findings)


def _known(value: Any, available: frozenset[str]) -> dict[str, Any]:
    """The entries of a mapping in which nothing is open, with their defaults filled in."""
    filled = {key: _fill(item, available) for key, item in value.items()} if isinstance(value, dict) else {}
    return {key: item for key, item in filled.items() if _OPEN not in str(item)}


def _fill(value: Any, available: frozenset[str]) -> Any:
    if isinstance(value, str):
        filled = _filled(value, available, _OPEN)
        return _OPEN if re.search(r"(?<!\$)(?:\$\$)*\$(?!\$)", filled) else filled
    if isinstance(value, dict):
        return {key: _fill(item, available) for key, item in value.items()}
    return [_fill(item, available) for item in value] if isinstance(value, list) else value


def _long(service: Mapping[str, Any], sections: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A service with its mounts and networks in the long form; what is beside the Compose file is no matter here."""
    attached = service.get("networks")
    joined = attached if isinstance(attached, dict) else dict.fromkeys(_texts(attached))
    listed = [entry if isinstance(entry, dict) else {"source": str(entry)} for entry in _list(service.get("configs"))]
    return {
        **service,
        "networks": joined or {"default": None},
        "volumes": [_mount(entry, sections["volumes"]) for entry in _list(service.get("volumes"))],
        "configs": [entry for entry in listed if entry.get("source") in sections["configs"]],
    }


def _of_host(config: Any) -> bool:
    """Whether a config is a file of the host."""
    return isinstance(config, dict) and str(config.get("file") or "").startswith("/")


def _mount(entry: Any, declared: Mapping[str, Any]) -> dict[str, Any]:
    """A mount in the long form; the short one is `[source:]target[:options]`."""
    if isinstance(entry, dict):
        mount = dict(entry)
    else:
        source, _, rest = str(entry).partition(":")
        target, _, options = rest.partition(":")
        kind = "bind" if source.startswith(("/", ".", "~")) else "volume"
        mount = {"type": kind, "source": source, "target": target, "read_only": "ro" in options.split(",")}
        if not rest:
            return {"type": "volume", "target": source}
    source = str(mount.get("source") or "")
    if mount.get("type") == "bind" and source.startswith("~"):
        mount["source"] = f"/root{source[1:]}" if source.startswith("~/") else f"/{source}"
    elif mount.get("type") == "bind" and not source.startswith("/"):
        return {"type": "tmpfs", "target": str(mount.get("target", ""))}
    elif mount.get("type") == "volume" and source not in declared:
        return {"type": "volume", "target": str(mount.get("target", ""))}
    return mount


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _texts(value: Any) -> list[str]:
    return [item for item in _list(value) if isinstance(item, str)]


def _check_backup_volumes(data: Mapping[str, Any], wanted: Iterable[str], findings: Findings) -> None:
    """What is backed up has to be a volume of the engine's own, whose name is known here."""
    section = data.get("volumes")
    declared: Mapping[str, Any] = section if isinstance(section, dict) else {}
    for name in wanted:
        if name not in declared:
            if "include" not in data:
                what = f"apps[{findings.app}].backup_volumes names `{name}`, which the file does not declare"
                fix = f"add `{name}:` to the top-level volumes, or correct backup_volumes"
                findings.refuse("volumes", what + did_you_mean(name, declared), fix)
            continue
        definition = declared[name] if isinstance(declared[name], dict) else {}
        foreign = next((key for key in ("driver", "driver_opts", "external") if definition.get(key)), "")
        if foreign and definition[foreign] != "local":
            what = f"is backed up (apps[{findings.app}].backup_volumes), and may not be on this host's disk"
            findings.refuse(f"volumes.{name}.{foreign}", what, f"remove {foreign}, or leave it out of backup_volumes")
        if "$" in str(definition.get("name", "")):
            what = "is backed up, and its name is known on the host only"
            findings.refuse(f"volumes.{name}.name", what, "write the name out")


def _check_variables(data: Mapping[str, Any], available: frozenset[str], findings: Findings) -> None:
    """Every variable without a default must come from somewhere. Each is named once, where it is first used."""
    seen: set[str] = set()
    for section in ("services", "networks", "volumes", "configs", "secrets"):
        for path, value in _strings(data.get(section), section):
            if match := _MALFORMED.search(value):
                what = f"`{match[0].lstrip('$')}` after a dollar is not a variable"
                findings.refuse(path, what, "write `$$` for a dollar that is meant as one")
            for variable in _missing(value, available):
                if variable not in seen and not _left_out(data, path):
                    _refuse_variable(path, variable, available, findings)
                    seen.add(variable)


def _refuse_variable(path: str, variable: str, available: frozenset[str], findings: Findings) -> None:
    if variable.startswith("FLOTILLA_"):
        what = f"${{{variable}}} is known in the container only"
        fix = f"write `$${{{variable}}}` where a shell in the container reads it, or let the program read it"
    else:
        what = f"${{{variable}}} has no value and no default{did_you_mean(variable, available)}"
        fix = (
            f"add {variable} to apps[{findings.app}].environment, or the secret `{variable.lower()}` to "
            f"apps[{findings.app}].secrets, or write ${{{variable}:-default}}, or `$${variable}` for a literal dollar"
        )
    findings.refuse(path, what, fix)


def _missing(value: str, available: frozenset[str]) -> Iterator[str]:
    for match in _VARIABLE.finditer(value):
        name = match["named"] or match["braced"]
        rest = match["rest"] or ""
        if name and name not in available and not rest.startswith(("-", ":-", "+", ":+")):
            yield name


def _filled(value: str, available: frozenset[str], unknown: str = "x") -> str:
    """An interpolated value where defaults are known, with `unknown` for what only the inventory knows."""

    def fill(match: re.Match[str]) -> str:
        if match["escaped"]:
            return "$$"
        default = re.match(r":?-(.*)", match["rest"] or "")
        return default[1] if default and match["braced"] not in available else unknown

    return _VARIABLE.sub(fill, value)


def _left_out(data: Mapping[str, Any], path: str) -> bool:
    """Whether a path is in a service with a profile, which may never run."""
    parts = path.split(".")
    if parts[0] != "services" or len(parts) < 2:
        return False
    services = data["services"]
    name = next((name for name in services if path == f"services.{name}" or path.startswith(f"services.{name}.")), None)
    return name is not None and isinstance(services[name], dict) and bool(services[name].get("profiles"))


def _port(entry: Any) -> Any:
    """A port in the long form; the short one is `[[ip:]published:]target[/protocol]`."""
    if isinstance(entry, Mapping):
        return entry
    text, _, protocol = str(entry).partition("/")
    rest, _, target = text.rpartition(":")
    return {"published": rest, "target": target, "protocol": protocol or "tcp"}


def _strings(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every string of a structure with its path."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _strings(item, f"{path}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _strings(item, f"{path}[{index}]")


def _located(problem: Problem, file: str, lines: Mapping[str, int]) -> Problem:
    """The problem with its line: that of its path, or of the nearest thing around it."""
    if problem.where != file:
        return problem
    path = problem.variable
    while path and path not in lines:
        path = re.sub(r"(\.[^.\[]*|\[\d+\])$", "", path) if re.search(r"[.\[]", path) else ""
    return replace(problem, where=f"{file}:{lines[path]}") if path else problem
