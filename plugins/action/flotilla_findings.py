# MIT License, see LICENSE at the root of the project.
"""Judge what the droplets of an environment said. See the module of the same name."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

sys.path.append(str(Path(__file__).resolve().parents[1] / "module_utils"))

from flotilla import account
from flotilla.exposure import allow_list
from flotilla.inspection import PROVISION
from flotilla.openings import declared, differences
from flotilla.public_face import certificate_problems, dns_problems, names_of, resolve, table
from flotilla.roles import options
from flotilla.trail import read_chain
from flotilla.volumes import senders
from flotilla.witnesses import Kept, Known, contradictions

ROOT = Path(__file__).resolve().parents[2]
Row = dict[str, str]
# What the playbook registers on each host.
TRAIL, HOST, NEIGHBOURS, OUTSIDE = "validate_trail", "validate_host", "validate_neighbours", "validate_outside"
NEW_LOG = "find out who did it: docs/how-to/who-did-what.md"


class ActionModule(ActionBase):
    """Needs no host: it reads what the play registered."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """`lines` to show, and the `number` of findings."""
        super().run(tmp, task_vars)
        variables = task_vars or {}
        _, args = self.validate_argument_spec(
            argument_spec={
                "names_file": {"type": "str", "default": ""},
                "certificate_days": {"type": "int", "default": 14},
                "acknowledged": {"type": "str", "default": ""},
            }
        )
        return judged(variables, args)


def judged(variables: Mapping[str, Any], args: Mapping[str, Any]) -> dict[str, Any]:
    """All findings. variables: of the task, with `hostvars` and `groups`."""
    hosts = sorted(variables["ansible_play_hosts_all"])
    said = {host: variables["hostvars"][host] for host in hosts}
    silent = [row for host in hosts if (row := unreachable(host, said[host]))]
    answered = {host: told for host, told in said.items() if host not in {row["host"] for row in silent}}
    answered = {host: {**told, TRAIL: followed(told[TRAIL])} for host, told in answered.items()}
    acknowledged = {one.strip() for one in args["acknowledged"].split(",")} & set(answered)
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    kept = kept_of(variables).read()
    known = kept | {host: Known(since=now) for host in acknowledged}
    trails = list(trail_findings(answered, variables, known))
    rows = [
        *silent,
        *trails,
        *(row for host in answered for row in own_findings(host, answered[host])),
        *build_findings(answered),
        *port_findings(answered, variables),
        *certificate_findings(answered, int(args["certificate_days"])),
        *name_findings(variables, args["names_file"]),
    ]
    unique = list({(row["host"], row["about"], row["what"]): row for row in rows}.values())
    if not trails and not variables.get("ansible_check_mode"):
        seen = {host: seen_of(told[TRAIL], now if host in acknowledged else "") for host, told in answered.items()}
        kept_of(variables).settle({host: one for host, one in seen.items() if one.heads or one.since}, kept)
    notes = [f"{host}: {note}" for host in answered for note in notes_of(answered[host])]
    entries = sum(told[TRAIL]["trail"][0] for told in answered.values() if told.get(TRAIL, {}).get("trail"))
    looked = f"{len(answered)} of {len(hosts)} hosts answered; their logs have {entries} entries"
    lines = [*(table(unique) if unique else []), *dict.fromkeys(notes), looked]
    return {"changed": False, "lines": lines, "number": len(unique)}


def row(host: str, about: str, what: str, following: str) -> Row:
    return {"host": host, "about": about, "what": what, "next": following}


def unreachable(host: str, told: Mapping[str, Any]) -> Row | None:
    """Why nothing is known of a host, or nothing."""
    # Failures were made none, so that all hosts are judged: what an answer lacks tells them.
    for name, wanted in ((TRAIL, "text"), (HOST, "findings")):
        result = told.get(name) or {}
        if wanted not in result:
            why = " ".join(str(result.get("msg", "it was not asked")).split())
            return row(host, "host", f"it could not be looked at: {why}", f"ansible {host} -m ping -i <inventory>")
    return None


def followed(told: Mapping[str, Any]) -> dict[str, Any]:
    """A host's log by its raw file. What the host says of the chain itself is not believed."""
    chain = read_chain(str(told["text"]))
    return {
        **told,
        "trail": chain.head.told(),
        "links": [entry["hash"] for entry in chain.entries],
        "seen": chain.seen(),
        "environments": chain.environments(),
        "problems": list(dict.fromkeys([*chain.problems, *told["problems"]])),
    }


def seen_of(trail: Mapping[str, Any], since: str) -> Known:
    """What is kept of a host whose log is right. since: when a person said that it is another one now, or nothing."""
    number, link = trail["trail"]
    return Known(((number, link),) if number else (), str(trail.get("key", "")), since)


def kept_of(variables: Mapping[str, Any]) -> Kept:
    """What this control node saw of the environment's trails."""
    return Kept.of(account.directory(ROOT, str(variables.get("environment_name", "")), os.environ))


def notes_of(told: Mapping[str, Any]) -> list[str]:
    return [*told[TRAIL]["notes"], *told[HOST]["notes"]]


def trail_findings(
    said: Mapping[str, Mapping[str, Any]], variables: Mapping[str, Any], kept: Mapping[str, Known]
) -> Iterator[Row]:
    """What is wrong with the logs, each by itself and between them."""
    environment = str(variables.get("environment_name", ""))
    for host, told in said.items():
        for problem in told[TRAIL]["problems"]:
            what, _, following = problem.partition(". Next, ")
            yield row(host, "log", what, following or f"{NEW_LOG}; its lines are in /opt/flotilla/trail.jsonl")
        if strange := [name for name in told[TRAIL]["environments"] if name != environment]:
            yield row(host, "log", f"it has entries of {', '.join(strange)}", NEW_LOG)
    for host, what in contradictions({host: told[TRAIL] for host, told in said.items()}, kept):
        yield row(host, "log", what, f"{NEW_LOG}. If you know it: validate.yml once more with -e acknowledged={host}")


def own_findings(host: str, told: Mapping[str, Any]) -> Iterator[Row]:
    for one in told[HOST]["findings"]:
        yield row(host, one["about"], one["what"], one["next"])


def build_findings(said: Mapping[str, Mapping[str, Any]]) -> Iterator[Row]:
    """Hosts that run one image of a stack in different builds: its tag was pushed again between their pulls."""
    first: dict[tuple[str, str], tuple[str, str]] = {}
    for host, told in said.items():
        for stack, build in told[HOST]["builds"].items():
            image, digest = str(build["image"]), str(build["digest"])
            other, theirs = first.setdefault((stack, image), (host, digest))
            if digest != theirs:
                what = f"{image} is {digest} here, and {theirs} on {other}: two builds of one name"
                pin = f"{stack}_image: {image}@<one of them>"
                yield row(host, "images", what, f"group_vars/all: {pin}, then {PROVISION}")


def port_findings(said: Mapping[str, Mapping[str, Any]], variables: Mapping[str, Any]) -> Iterator[Row]:
    """What answers from here and from the neighbours, and is not declared; and the other way round."""
    groups = variables["groups"]
    defaults = {name: spec.get("default") for name, spec in options(ROOT / "roles")["firewall"].items()}
    addresses = {host: str(variables["hostvars"][host].get("private_address") or "") for host in groups["all"]}
    hostvars = variables["hostvars"]
    sending = senders(groups, variables.get("apps"), lambda host: bool(hostvars[host].get("redis_durable")))
    for host, told in said.items():
        rules = declared(told, defaults, allow_list(told["group_names"], told, groups, addresses, sending))
        outside = (told.get(OUTSIDE) or {}).get("reached") or {}
        for open_ports in outside.values():
            source = told[HOST]["session"].get("from", "")
            for what, following in differences(rules, source, "the control node", open_ports):
                yield row(host, "ports", what, following)
        for other, theirs in said.items():
            reached = ((theirs.get(NEIGHBOURS) or {}).get("reached") or {}).get(addresses[host])
            if other != host and reached is not None:
                for what, following in differences(rules, addresses[other], other, reached):
                    yield row(host, "ports", what, following)


def certificate_findings(said: Mapping[str, Mapping[str, Any]], days: int) -> Iterator[Row]:
    now = datetime.now(UTC)
    for host, told in said.items():
        for name, served in told[HOST]["served"].items():
            following = (
                "ansible-playbook playbooks/provision.yml renews its own; docs/how-to/use-your-own-certificate.md"
            )
            for what, then in certificate_problems(name, served, now, days, following):
                yield row(host, "certificate", what, then)


def name_findings(variables: Mapping[str, Any], file: str) -> Iterator[Row]:
    """Where the apps' names lead. file: asked in place of the DNS."""
    hostvars, groups = variables["hostvars"], variables["groups"]
    front = groups.get("loadbalancer") or groups.get("app") or []
    expected = variables.get("environment_public_addresses") or [
        str(hostvars[host].get("public_address") or hostvars[host].get("ansible_host") or host) for host in front
    ]
    domains = [str(domain) for app in variables.get("apps") or () for domain in app.get("domains") or ()]
    book = names_of(Path(file).read_text()) if file else None
    resolver = resolve if book is None else lambda name: book.get(name.lower(), [])
    for what, following in dns_problems(domains, expected, resolver):
        yield row("-", "DNS", what, following)
