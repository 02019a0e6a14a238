"""What two environments must not share, and whether they do. Pure: values in, problems out.

A comparison is one function of two environments that returns a `Finding`; COMPARISONS lists them all, and VARIABLES
what they want to know of each host. Secrets come in as digests under a key of this run: nothing here can show one.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from .agreed import SHARED, Agreed
from .budget import BUDGET
from .problem import Problem
from .sharing import Comparison, Environment, Finding, OpenedVault, Thing, Words, compared
from .ssh_keys import Key, read_keys

PRIVATE_KEY_FILES = ("ansible_ssh_private_key_file", "ansible_private_key_file")
AUTHORIZED_KEYS = "base_deploy_authorized_keys"
NETWORK = "environment_private_network"
BACKUP_BUCKET = "backup_s3"
# Of each host, with their templates worked out.
VARIABLES = ("ansible_host", "private_address", NETWORK, AUTHORIZED_KEYS, BACKUP_BUCKET, BUDGET, *PRIVATE_KEY_FILES)
# The Compose projects that a group has on its hosts, beside those of the apps.
STACK_OF = {"app": "nginx", "postgres": "postgres", "redis": "redis", "loadbalancer": "haproxy"}


def addresses(one: Environment, other: Environment) -> Finding:
    """No host of the one is a host of the other."""
    words = Words(
        "addresses", "give each host an address of its own: a droplet belongs to one environment", agreeable=False
    )
    return compared(words, one, other, _addresses)


def _addresses(environment: Environment) -> Iterator[Thing]:
    for host, variables in environment.hosts.items():
        for variable, text in _addresses_of(host, variables):
            yield Thing(normal_address(text), text, environment.place(variable, text), variable)


def _addresses_of(host: str, variables: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Variable and address. A host without `ansible_host` is reached by its name."""
    for variable in ("ansible_host", "private_address"):
        if variables.get(variable):
            yield variable, str(variables[variable])
    if not variables.get("ansible_host"):
        yield host, host


def normal_address(text: str) -> str:
    """One spelling of an IP address, or of a name."""
    try:
        address = ipaddress.ip_address(text.strip().strip("[]"))
    except ValueError:
        return text.strip().rstrip(".").lower()
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def networks(one: Environment, other: Environment) -> Finding:
    """The private networks do not overlap, and no host has a private address in the other's."""
    words = Words(
        "private networks", "move one of the two to a network of its own", alike="overlaps `{label}` in {other}"
    )
    return compared(words, one, other, _networks, _overlap)


def _networks(environment: Environment) -> Iterator[Thing]:
    found = {}
    for _, value in environment.of_hosts(NETWORK):
        network = read_network(str(value))
        if network is not None:
            found[network] = Thing(str(network), str(value), environment.place(NETWORK, str(value)), NETWORK)
    yield from found.values()
    for _, value in environment.of_hosts("private_address"):
        address = read_network(normal_address(str(value)))
        if address is not None and not any(overlap(address, network) for network in found):
            place = environment.place("private_address", str(value))
            yield Thing(str(address), str(value), place, "private_address")


def _overlap(mine: Thing, theirs: Thing) -> bool:
    # Two addresses are the business of `addresses`.
    if mine.variable == theirs.variable == "private_address":
        return False
    left, right = read_network(mine.identity), read_network(theirs.identity)
    return left is not None and right is not None and overlap(left, right)


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def read_network(text: str) -> Network | None:
    """A network from its CIDR, or from an address in it; None when it is neither."""
    try:
        return ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        return None


def overlap(one: Network, other: Network) -> bool:
    """Whether some address is in both."""
    return one.version == other.version and one.overlaps(other)


def host_names(one: Environment, other: Environment) -> Finding:
    """No host has the name of one of the other's: logs, histories and `--limit` would take one for the other."""
    words = Words("host names", "name the environment in the host's name, such as {one}-app-1", agreeable=False)
    return compared(words, one, other, _host_names)


def _host_names(environment: Environment) -> Iterator[Thing]:
    for host in environment.hosts:
        yield Thing(host.lower(), host, environment.place(host, ""), "hosts")


def domains(one: Environment, other: Environment) -> Finding:
    """No app is served under a domain of the other's, nor under one that the other's wildcard covers."""
    words = Words("domains", "serve it from one of the two", alike="overlaps `{label}` in {other}")
    return compared(words, one, other, _domains, lambda mine, theirs: covers(mine.identity, theirs.identity))


def _domains(environment: Environment) -> Iterator[Thing]:
    for app in environment.apps:
        for domain in app.get("domains") or ():
            yield Thing(
                str(domain).lower(),
                str(domain),
                environment.place("domains", str(domain)),
                f"apps[{app.get('name')}].domains",
            )


def covers(one: str, other: str) -> bool:
    """Whether two domains are the same, or one is a wildcard for the other; a wildcard is for one label."""
    if one == other:
        return True
    return any(
        wide.startswith("*.") and not narrow.startswith("*.") and narrow.partition(".")[2] == wide[2:]
        for wide, narrow in ((one, other), (other, one))
    )


def projects(one: Environment, other: Environment) -> Finding:
    """On a droplet that both have, no Compose project of the one is a project of the other."""
    shared = {thing.identity for thing in _addresses(one)} & {thing.identity for thing in _addresses(other)}
    if not shared:
        return Finding("Compose projects: no droplet is in both, so names may be the same")
    words = Words(
        "Compose projects", "take the host out of one of the two, or give the app another name", agreeable=False
    )
    return compared(words, one, other, lambda environment: _projects(environment, shared))


def _projects(environment: Environment, droplets: Iterable[str]) -> Iterator[Thing]:
    """What runs on these droplets. An identity is project and droplet."""
    for host, variables in environment.hosts.items():
        at = {normal_address(address) for _, address in _addresses_of(host, variables)}
        groups = [group for group, members in environment.groups.items() if host in members]
        for droplet in sorted(at & set(droplets)):
            for group in groups:
                if group in STACK_OF:
                    yield Thing(
                        f"{droplet} {STACK_OF[group]}", STACK_OF[group], environment.place(group, ""), group, host
                    )
            for app in environment.apps if "app" in groups else ():
                name = str(app.get("name"))
                yield Thing(f"{droplet} app {name}", name, environment.place("name", name), f"apps[{name}].name", host)


def private_keys(one: Environment, other: Environment) -> Finding:
    """Ansible does not log in to both with the same private key, whatever its file is called."""
    words = Words("private key files", "make another with ssh-keygen, and name it in one of the two")
    return compared(words, one, other, _private_keys)


def _private_keys(environment: Environment) -> Iterator[Thing]:
    for variable in PRIVATE_KEY_FILES:
        for _, value in environment.of_hosts(variable):
            label = str(value)
            place = environment.place(variable, label)
            for identity in environment.key_files.get(label) or [label]:
                yield Thing(identity, label, place, variable)


def authorized_keys(one: Environment, other: Environment) -> Finding:
    """Nobody's key opens the deploy user of both."""
    words = Words("authorised keys", "give each environment keys of its own")
    return compared(words, one, other, _authorized_keys)


def _authorized_keys(environment: Environment) -> Iterator[Thing]:
    for _, value in environment.of_hosts(AUTHORIZED_KEYS):
        for key in keys_of(value):
            yield Thing(
                key.fingerprint,
                key.fingerprint,
                environment.place(AUTHORIZED_KEYS, key.blob),
                AUTHORIZED_KEYS,
                key.comment,
            )


def keys_of(value: Any) -> list[Key]:
    """The public keys of a variable; each item may be a line of `authorized_keys`, or a whole file of them."""
    items = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    return [key for item in items for key in read_keys(str(item))]


def vaults(one: Environment, other: Environment) -> Finding:
    """Each vault has an id and a password of its own, and does not open with the other's."""
    problems = [
        problem for mine in one.vaults for theirs in other.vaults for problem in _vaults(one, other, mine, theirs)
    ]
    for environment, partner in ((one, other), (other, one)):
        for vault in environment.vaults:
            # The same password has been said already.
            if partner.name in vault.opened_by and not any(vault.digests & their.digests for their in partner.vaults):
                what = f"the vault opens with a password of {partner.name} ({partner.vaults[0].password_file})"
                problems.append(Problem(vault.file, "vault password", what, vault.rekey))
    counts = f"{len(one.vaults)} and {len(other.vaults)}"
    return Finding(f"vaults: {counts}, each with an id and a password of its own", tuple(problems))


def _vaults(one: Environment, other: Environment, mine: OpenedVault, theirs: OpenedVault) -> Iterator[Problem]:
    if mine.id == theirs.id:
        what = f"`{mine.id}` is the id of {theirs.file} in {other.name} too"
        fix = "give one of the inventory directories another name: a vault's id is the name of its directory"
        yield Problem(mine.file, "vault id", what, f"{fix}, then {mine.rekey}")
    if mine.digests & theirs.digests:
        what = f"the password is the one of {other.name} too ({theirs.file}, opened by {theirs.password_file})"
        yield Problem(mine.file, f"vault password ({mine.password_file})", what, mine.rekey)


def secrets(one: Environment, other: Environment) -> Finding:
    """No secret of the one has the value of any secret of the other."""
    words = Words(
        "secrets",
        "give {one} one of its own: put the name below secrets_values in FILE, then {command} -e @FILE",
        equal="has the same value in {other}",
        alike="has the value of `{label}` in {other}",
    )
    return compared(words, one, other, lambda environment: environment.secrets)


def backup_places(one: Environment, other: Environment) -> Finding:
    """No bucket of backups is the other's too. Hosts of the group `backup` are held against each other as addresses."""
    words = Words("backup buckets", "give each environment a bucket, and an access key, of its own", agreeable=False)
    return compared(words, one, other, _backup_places)


def _backup_places(environment: Environment) -> Iterator[Thing]:
    for _, value in environment.of_hosts(BACKUP_BUCKET):
        if isinstance(value, Mapping) and value.get("bucket"):
            bucket = str(value["bucket"])
            endpoint = re.sub(r"^\w+://", "", str(value.get("endpoint") or "")).strip("/").lower()
            place = environment.place("bucket", bucket)
            yield Thing(f"{endpoint}/{bucket}", bucket, place, f"{BACKUP_BUCKET}.bucket")


def budgets(one: Environment, other: Environment) -> Finding:
    """What the one costs is not counted with what the other costs."""
    words = Words("budgets", "make a budget for each with the provider, and name it here", agreeable=False)
    return compared(words, one, other, _budgets)


def _budgets(environment: Environment) -> Iterator[Thing]:
    for _, value in environment.of_hosts(BUDGET):
        if isinstance(value, Mapping) and value.get("name"):
            name = str(value["name"])
            yield Thing(name.strip().lower(), name, environment.place(BUDGET, name), f"{BUDGET}.name")


COMPARISONS: tuple[Comparison, ...] = (
    addresses,
    networks,
    host_names,
    domains,
    projects,
    private_keys,
    authorized_keys,
    vaults,
    secrets,
    backup_places,
    budgets,
)


def keyed(key: bytes, value: str | bytes) -> str:
    """The digest under which a secret is compared. `key` is random, and forgotten when the run ends."""
    return hmac.new(key, value.encode() if isinstance(value, str) else value, hashlib.sha256).hexdigest()


def leaves(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Every text or number in a secret, by name: `vault_users.mia`. What is empty or a truth value is no secret."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(f"{name}.{key}", item)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from leaves(f"{name}[{index}]", item)
    elif value is not None and not isinstance(value, bool) and str(value).strip():
        yield name, str(value).strip()


def compare(environments: Sequence[Environment]) -> tuple[list[str], list[Problem]]:
    """Every two environments against each other: a line for each comparison that passed, and the problems."""
    lines: list[str] = []
    problems: list[Problem] = []
    for one, other in combinations(environments, 2):
        findings = [comparison(one, other) for comparison in COMPARISONS]
        lines.append(f"{one.name} and {other.name}")
        lines += [f"  {finding.line}" for finding in findings if not finding.problems]
        problems += [problem for finding in findings for problem in finding.problems]
        used = {entry for finding in findings for entry in finding.used}
        problems += _stale(one, other, used) + _stale(other, one, used)
    return lines, problems


def _stale(one: Environment, other: Environment, used: Iterable[Agreed]) -> list[Problem]:
    """Entries that allow what is not shared: the next thing of that name would slip through."""
    return [
        Problem(
            entry.place, SHARED, f"`{entry.what}` is allowed, and {other.name} does not have it", "remove the entry"
        )
        for entry in one.agreed
        if entry.partner == other.name and entry not in used
    ]


def network_problems(environment: Environment) -> list[Problem]:
    """What is wrong with the private network of one environment, so that it cannot be compared."""
    values = [str(value) for _, value in environment.of_hosts(NETWORK)]
    problems = [
        Problem(
            environment.place(NETWORK, value),
            NETWORK,
            f"`{value}` is not a network",
            "write a CIDR such as 10.1.0.0/16",
        )
        for value in dict.fromkeys(values)
        if read_network(value) is None
    ]
    if not values and len(environment.hosts) > 1:
        what = "is missing, and without it nobody can tell the private networks of two environments apart"
        fix = f"add {NETWORK}: 10.1.0.0/16, or what yours is"
        problems.append(Problem(environment.place("environment_name", ""), NETWORK, what, fix))
    return problems
