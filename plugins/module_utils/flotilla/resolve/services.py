"""One service of the user's file → one service of a release."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import keys, privileges
from .budget import deploy_section
from .findings import Findings
from .hardening import strict
from .images import parse, suggest
from .model import COLOUR, HOST, RELEASE, Context
from .places import Place
from .values import seconds, unescape

DEFAULT_GRACE = "10s"  # the specification's own

_CAPPED_DRIVERS = {"json-file": {"max-size": "10m", "max-file": "3"}, "local": {"max-size": "10m", "max-file": "3"}}
_VARIABLES = {"FLOTILLA_RELEASE": RELEASE, "FLOTILLA_COLOUR": COLOUR, "FLOTILLA_HOST": HOST}


def translate(
    name: str, service: Mapping[str, Any], place: Place, one_shot: bool, context: Context, findings: Findings
) -> dict[str, Any]:
    """Everything of a service but its networks, mounts and dependencies."""
    kept = {key: value for key, value in service.items() if key in keys.KEPT and value is not None}
    kept |= strict(service)
    kept["image"] = check_image(name, service, context, findings)
    keys.check(service, "services.*", f"services.{name}", findings)
    privileges.refuse(name, service, context, findings)
    if "container_name" in service:
        findings.note(f"services.{name}.container_name", "left out: both colours exist at once during a deploy")
    for key in ("credential_spec", "isolation"):
        if service.get(key):
            findings.note(f"services.{name}.{key}", f"left out: {keys.KEYS[f'services.*.{key}'].remark}")
    if place is Place.MIGRATION:
        kept["restart"] = "no"
        kept.pop("healthcheck", None)
    else:
        kept["restart"] = "no" if one_shot else "unless-stopped"
    refuse_ports(name, service, place, context, findings)
    refuse_links(name, service, findings)
    kept["environment"] = _environment(name, service, place, findings)
    kept["labels"] = _labels(name, service, place, context, findings)
    kept["logging"] = _logging(service)
    kept["deploy"] = deploy_section(name, service, place, context, findings)
    kept["stop_grace_period"] = service.get("stop_grace_period") or DEFAULT_GRACE
    return kept


def grace(service: Mapping[str, Any]) -> float:
    """The seconds between TERM and KILL of a resolved service."""
    return seconds(service.get("stop_grace_period") or DEFAULT_GRACE)


def check_health(name: str, service: Mapping[str, Any], port: int, context: Context, findings: Findings) -> None:
    """A service on a route needs a health check: without one nobody can say that a new release works."""
    check = service.get("healthcheck") or {}
    test = check.get("test")
    absent = check.get("disable") or not test or test == ["NONE"]
    if absent and name not in context.unchecked:
        findings.refuse(
            f"services.{name}.healthcheck",
            "a service on a route needs a health check" + (" and this one is disabled" if check else ""),
            f'add healthcheck: {{test: ["CMD", "curl", "-fsS", "http://127.0.0.1:{port}/health"], interval: 10s, '
            f"timeout: 3s, retries: 3, start_period: 30s}} with a path that answers, "
            f"or name `{name}` in apps[{context.app}].routes_without_health_check",
        )


def check_image(name: str, service: Mapping[str, Any], context: Context, findings: Findings) -> str:
    """The image that a release runs: the user's, by its digest where that is known. It has to name one."""
    path = f"services.{name}.image"
    written = str(service.get("image") or "")
    plain = unescape(written)
    if not written:
        if service.get("build"):
            findings.refuse(
                f"services.{name}.build",
                "hosts run images and do not build them, and this service has `build:` without `image:`",
                f"add `{suggest(name)}` beside build, and push it from where it is built",
            )
        else:
            findings.refuse(path, "the service has neither an image nor a build", f"add `{suggest(name)}`")
        return written
    reference = parse(plain)
    if reference is None:
        findings.refuse(path, f"`{plain}` is not an image reference", f"write it like `{suggest(name)}`")
    elif reference.moving and not context.allow_latest:
        tag = "the tag `latest`" if reference.tag else "no tag"
        findings.refuse(
            path,
            f"`{plain}` has {tag}, and means another image tomorrow",
            f"name a version, such as `{reference.name}:${{VERSION}}` (the version that is deployed) or a fixed one",
        )
    return context.digests.get(plain, written)


def refuse_ports(name: str, service: Mapping[str, Any], place: Place, context: Context, findings: Findings) -> None:
    """A published port belongs to the host: two colours cannot both have it, and it goes past the firewall."""
    for index, port in enumerate(service.get("ports") or ()):
        target = port.get("target") if isinstance(port, Mapping) else port
        line = _port_line(port) if isinstance(port, Mapping) else str(port)
        if place is Place.SHARED:
            way = f"services reach it as `{name}:{target}`, people through an SSH tunnel"
        else:
            way = f"a route of apps[{context.app}].routes reaches it: {{path: /, service: {name}, port: {target}}}"
        findings.refuse(
            f"services.{name}.ports[{index}]",
            "opens a port of the host, which two colours cannot both hold, past the host's firewall",
            f'remove "{line}" from ports; {way}',
        )


def _port_line(port: Mapping[str, Any]) -> str:
    """A port as people write it: `127.0.0.1:8080:80/udp`."""
    parts = [str(port[key]) for key in ("host_ip", "published", "target") if port.get(key) not in (None, "")]
    protocol = port.get("protocol", "tcp")
    return ":".join(parts) + ("" if protocol == "tcp" else f"/{protocol}")


def refuse_links(name: str, service: Mapping[str, Any], findings: Findings) -> None:
    """Links name containers, and those change with every release."""
    for key in ("links", "external_links"):
        for index, link in enumerate(service.get(key) or ()):
            target, _, alias = str(link).partition(":")
            alternative = (
                f"add `{alias}` to the aliases of `{target}`"
                if alias and alias != target
                else f"use the name `{target}`"
            )
            findings.refuse(
                f"services.{name}.{key}[{index}]",
                "links tie a container to another one by name",
                f"remove it and {alternative}",
            )


def _environment(name: str, service: Mapping[str, Any], place: Place, findings: Findings) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for variable, value in (service.get("environment") or {}).items():
        path = f"services.{name}.environment.{variable}"
        if variable.startswith("FLOTILLA_"):
            findings.refuse(path, "variables that start with FLOTILLA_ are set by Flotilla", "give it another name")
        elif value is None:
            findings.note(path, "left out: it has no value")
        else:
            kept[variable] = value
    if place is Place.SHARED:
        return {**kept, "FLOTILLA_HOST": HOST}
    return {**kept, **_VARIABLES}


def _labels(
    name: str, service: Mapping[str, Any], place: Place, context: Context, findings: Findings
) -> dict[str, str]:
    kept = {}
    for label, value in (service.get("labels") or {}).items():
        if label.startswith(("flotilla.", "com.docker.compose.")):
            findings.refuse(f"services.{name}.labels.{label}", "the label's prefix is not free", "give it another name")
        else:
            kept[label] = value
    kept["flotilla.app"] = context.app
    if place is not Place.SHARED:
        kept["flotilla.release"] = RELEASE
        kept["flotilla.colour"] = COLOUR
    return kept


def _logging(service: Mapping[str, Any]) -> dict[str, Any]:
    """The user's logging, with a limit where logs would otherwise fill the disk."""
    logging = service.get("logging") or {}
    driver = logging.get("driver") or "json-file"
    options = {**_CAPPED_DRIVERS.get(driver, {}), **(logging.get("options") or {})}
    return {"driver": driver, **({"options": options} if options else {})}
