"""An environment in a lab of its own, as an operator sees it: playbooks, SSH, the page, the database."""

from __future__ import annotations

import fcntl
import http.client
import json
import math
import os
import re
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import docker
import yaml
from flotilla.vault import Vault, open_vault

from tests.lab.roles.lab.module_utils.lab_containers import Engine

ROOT = Path(__file__).resolve().parents[2]
INVENTORY = Path("inventories/staging")
PRODUCTION = Path("inventories/production")
HOST = "staging-1"
DOMAIN = "staging.example.com"
APP = "notes"
PLAYBOOK_SECONDS = 1500.0
STEADY_ANSWERS = 10
# What ssh itself ends with when it does not get in.
SSH_FAILED = 255
COLOURS = ("blue", "green")
# All of a load comes from one address. With it in the entry of every file, they share what provisioning makes of it.
RATE_LIMIT = {"requests_per_second": 2000, "burst": 2000}
_RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Recap:
    """One host's line of a PLAY RECAP."""

    ok: int
    changed: int
    unreachable: int
    failed: int


@dataclass(frozen=True)
class Run:
    """A finished Ansible command. `output`: both streams, in the order that they were written."""

    command: str
    rc: int
    output: str
    seconds: float

    @property
    def recap(self) -> dict[str, Recap]:
        """What Ansible counted, by host."""
        return {name: Recap(*map(int, counts)) for name, *counts in _RECAP.findall(self.output)}

    @property
    def text(self) -> str:
        """The output as the messages were before Ansible quoted and wrapped them."""
        return self.output.replace('\\"', '"').replace("\\n", "\n")

    def succeeded(self) -> Run:
        """This run; fails the test when the command did."""
        assert self.rc == 0, f"{self.command} ended with {self.rc}:\n{self.output[-12000:]}"
        return self


@dataclass(frozen=True)
class Answer:
    """An answer of the edge; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Live:
    """What the app says of itself."""

    version: str
    release: str
    colour: str
    host: str


class PinnedConnection(http.client.HTTPSConnection):
    """HTTPS to an address, under the name of a domain, with the lab's CA as the only trust anchor."""

    def __init__(self, address: str, name: str, context: ssl.SSLContext, timeout: float) -> None:
        super().__init__(name, 443, timeout=timeout, context=context)
        self._address, self._name, self._tls = address, name, context

    def connect(self) -> None:
        plain = socket.create_connection((self._address, 443), self.timeout)
        self.sock = self._tls.wrap_socket(plain, server_hostname=self._name)


@dataclass(frozen=True)
class Lab:
    """What a test file wants of its lab.

    versions: of the sample app, to be in the registry.
    overlay: variables of the environment that differ from the inventory's, for the whole file.
    inventory: whose hosts it has.
    more_hosts: group → host → variables, beside the inventory's.
    app_hosts: how many of them carry the app, when there are more than the inventory's.
    p95_ms: the environment's target for the monitor window. Far from the inventory's by default: where two labs and
        their load share two cores, how long an answer takes says more about them than about a release.
    hub_images: more of them that the lab's mirror serves.
    name: of what files that want the same share: they take turns, and each begins with the same snapshot.
        Empty: the file has a lab of its own, and provisions it.
    """

    versions: Sequence[str] = ("1.0.0", "1.1.0")
    overlay: Mapping[str, Any] = field(default_factory=dict)
    inventory: Path = INVENTORY
    more_hosts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    app_hosts: int = 0
    p95_ms: int = 10_000
    hub_images: Sequence[str] = ()
    name: str = ""


def inventory_variables(topic: str, inventory: Path = INVENTORY) -> dict[str, Any]:
    """One file of the inventory's group_vars/all, as it is written."""
    variables: dict[str, Any] = yaml.safe_load((ROOT / inventory / f"group_vars/all/{topic}.yml").read_text())
    return variables


def app_entry(inventory: Path = INVENTORY, /, **changes: Any) -> dict[str, Any]:
    """The inventory's entry of the sample app, for many requests; `environment` and `deadlines` are merged."""
    entry: dict[str, Any] = inventory_variables("apps", inventory)["apps"][0] | {"rate_limit": RATE_LIMIT}
    for key in ("environment", "deadlines"):
        entry[key] = {**entry[key], **changes.pop(key, {})}
    return {**entry, **changes}


def write_overlay(
    directory: Path, variables: Mapping[str, Any], hosts: Mapping[str, Any] | None = None, group: str = "all"
) -> Path:
    """An inventory directory with nothing but these variables (for all hosts) and host variables."""
    (directory / "group_vars/all").mkdir(parents=True, exist_ok=True)
    (directory / "hosts.yml").write_text(yaml.safe_dump({group: {"hosts": dict(hosts or {})}}))
    (directory / "group_vars/all/test.yml").write_text(yaml.safe_dump(dict(variables), sort_keys=False))
    return directory


def write_lab_overlay(directory: Path, lab: Lab) -> tuple[Path, ...]:
    """The overlay of a lab that differs from its inventory: its variables, and the app hosts that are too few there."""
    more = {
        f"{lab.inventory.name}-app-{number}": {
            "ansible_host": f"203.0.113.{10 + number}",
            "private_address": f"10.0.0.{10 + number}",
        }
        for number in range(3, lab.app_hosts + 1)
    }
    overlay = write_overlay(directory, {"environment_p95_ms": lab.p95_ms, **lab.overlay}, more, "app")
    # Beside it: an inventory directory is read with all that is below.
    groups = [
        write_overlay(directory.with_name(f"{directory.name}-{group}"), {}, hosts, group)
        for group, hosts in lab.more_hosts.items()
    ]
    return (overlay, *groups)


# What most files begin with: the sample app on one host, and on two behind a balancer.
STAGING_LAB = Lab(
    name="staging",
    overlay={
        "apps": [
            app_entry(
                deadlines={"drain_seconds": 8},
                routes=[{**route, "websocket": route["service"] == "api"} for route in app_entry()["routes"]],
            )
        ],
    },
)
FLEET_LAB = Lab(
    name="fleet",
    versions=("1.0.0", "1.1.0", "1.2.0"),
    inventory=PRODUCTION,
    overlay={
        "apps": [app_entry(PRODUCTION, environment={"UPDATE_MONITOR": "2s"}, deadlines={"drain_seconds": 8})],
        # The first app host plays the one that reads metrics. It has the last octet of the inventory in the lab, too.
        "firewall_metrics_sources": ["{{ private_address | regex_replace('[0-9]+$', '11') }}"],
    },
)


def run_ansible(program: str, *arguments: str, seconds: float = PLAYBOOK_SECONDS) -> Run:
    """Run one of Ansible's commands at the root of the project."""
    began = time.monotonic()
    with ansible_process(program, *arguments) as process:
        output, _ = process.communicate(timeout=seconds)
    return Run(shlex.join((program, *arguments)), process.returncode, output, time.monotonic() - began)


@contextmanager
def ansible_process(program: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """One of Ansible's commands in a process group of its own, which is killed at the end of the block."""
    settings = {
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",  # whose recap is read here
        "ANSIBLE_HOME": str(Path("~/.ansible").expanduser()),
        "LC_ALL": "C.UTF-8",
    }
    with subprocess.Popen(
        [str(Path(sys.executable).with_name(program)), *arguments],
        cwd=ROOT,
        env=os.environ | settings,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


@dataclass(frozen=True)
class Environment:
    """An environment in a lab, seen from one of its hosts.

    overlays: inventory directories between the real one and the lab's, which is where secrets are written to.
    changes: inventory directories after the lab's.
    inventory: the real one.  host: the one that is asked, for `domain`; see `on`.
    """

    name: str
    overlays: tuple[Path, ...] = ()
    changes: tuple[Path, ...] = ()
    inventory: Path = INVENTORY
    host: str = HOST
    domain: str = DOMAIN

    def on(self, host: str) -> Environment:
        """The same environment, seen from another of its hosts."""
        return replace(self, host=host)

    # -- where things are -----------------------------------------------------------------------

    @property
    def directory(self) -> Path:
        return ROOT / ".lab" / self.name

    @property
    def home(self) -> Path:
        """FLOTILLA_HOME of the lab's tests: other labs have environments of the same name."""
        return self.directory / "seen"

    @property
    def lab_overlay(self) -> Path:
        return self.directory / self.inventory.name

    @property
    def ca(self) -> Path:
        """Who is trusted: the lab's authority, for what faces users, and the environment's own, for what is behind."""
        both = self.directory / "trusted.crt"
        return both if both.exists() else self.directory / "ca.crt"

    @property
    def address(self) -> str:
        """The host's public address."""
        return self._droplet("address")

    @property
    def private_address(self) -> str:
        return self._droplet("private_address")

    @property
    def url(self) -> str:
        return f"https://{self.address}"

    @property
    def inventories(self) -> list[str]:
        paths = (self.inventory, *self.overlays, self.lab_overlay.relative_to(ROOT), *self.changes)
        return [argument for path in paths for argument in ("-i", str(path))]

    def secrets(self) -> dict[str, str]:
        """What nobody may see of the vault, by name: no names of logins, and of a private key one line."""
        values, _ = open_vault(Vault(self.lab_overlay, self.lab_overlay / ".vault-password"), ROOT)
        found = {name: value for name, value in values.items() if isinstance(value, str) and not name.endswith("_user")}
        keys = {f"key {number}": one["key"] for number, one in enumerate(values["vault_pki_authorities"])}
        lines = {name: value.strip().splitlines() for name, value in (found | keys).items()}
        return {name: text[len(text) // 2] for name, text in lines.items()}

    def authorities(self) -> list[str]:
        """The certificates of the environment's own authorities, in their order."""
        values, _ = open_vault(Vault(self.lab_overlay, self.lab_overlay / ".vault-password"), ROOT)
        return [str(one["certificate"]) for one in values["vault_pki_authorities"]]

    def over(
        self, directory: Path, variables: Mapping[str, Any], hosts: Mapping[str, Any] | None = None
    ) -> Environment:
        """The same environment with other values for some variables, written into `directory`."""
        return replace(self, changes=(*self.changes, write_overlay(directory, variables, hosts)))

    def with_overlay(self, directory: Path, variables: Mapping[str, Any]) -> Environment:
        """As `over`, but before the lab's own inventory: secrets are still written there."""
        return replace(self, overlays=(*self.overlays, write_overlay(directory, variables)))

    def run_an_older_build(self, stack: str, image: str) -> str:
        """As if the tag had been pushed again since the host pulled it. Returns the id of what the stack runs."""
        self.ssh(f"docker build --quiet --tag {image} -", given=f"FROM {image}\nLABEL older=build\n")
        self.ssh(f"docker compose --project-directory /opt/flotilla/{stack} up --detach --wait")
        return self.image_of(stack)

    def image_of(self, stack: str) -> str:
        """The id of the image that a stack's container runs."""
        listed = f"docker ps --quiet --filter label=com.docker.compose.project={stack}"
        return self.ssh(f"docker inspect --format '{{{{.Image}}}}' $({listed})").strip()

    def _droplet(self, key: str) -> str:
        droplets = json.loads((self.directory / "lab.json").read_text())["droplets"]
        return str(next(droplet[key] for droplet in droplets if droplet["host"] == self.host))

    # -- Ansible --------------------------------------------------------------------------------

    def playbook(self, name: str, *arguments: str) -> Run:
        return run_ansible("ansible-playbook", name, *self.inventories, *arguments)

    def module(self, name: str, **options: Any) -> dict[str, Any]:
        """What a module returns from the host."""
        command = (self.host, "-b", "-m", name, "-a", json.dumps(options), *self.inventories)
        output = run_ansible("ansible", *command).succeeded().output
        result: dict[str, Any] = json.loads(output[output.index("{") :])
        return result

    def deploy_arguments(self, version: str | None = None, app: str | None = None, *arguments: str) -> list[str]:
        chosen = {"version": version, "app": app}
        extra = [part for key, value in chosen.items() if value for part in ("-e", f"{key}={value}")]
        # Where a deploy has to be approved, the version is named twice.
        approve = ["-e", f"approve={version}"] if version and self.inventory.name == "production" else []
        return ["deploy.yml", *self.inventories, *extra, *approve, *arguments]

    def deploy(self, version: str | None = None, app: str | None = None, *arguments: str) -> Run:
        return run_ansible("ansible-playbook", *self.deploy_arguments(version, app, *arguments))

    def ping(self) -> Run:
        return run_ansible("ansible", "all", "-m", "ping", *self.inventories)

    # -- the droplet ----------------------------------------------------------------------------

    def ssh_command(self, command: str, *options: str) -> list[str]:
        """A shell command as root on the droplet, by whom the inventory names and with sudo where that is not root."""
        login = ["ssh", "-F", str(self.directory / "ssh_config"), "-o", "BatchMode=yes", *options, self.host]
        return [*login, f'[ "$(id -u)" = 0 ] || sudo=sudo; exec $sudo bash -c {shlex.quote(command)}']

    def ssh(self, command: str, *, given: str = "", check: bool = True) -> str:
        """What a shell command on the droplet prints; `given` is its standard input."""
        done = self._ssh(command, given)
        if done.returncode == SSH_FAILED and "Permission denied (publickey" in done.stderr:
            # A bare droplet knows root only.
            done = self._ssh(command, given, "-l", "root")
        assert done.returncode == 0 or not check, f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def _ssh(self, command: str, given: str, *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.ssh_command(command, *options),
            input=given,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=600,
        )

    def python(self, code: str, *arguments: str) -> str:
        """What a Python program on the droplet prints."""
        return self.ssh(shlex.join(["python3", "-", *arguments]), given=code)

    def sql(self, query: str, database: str = APP) -> list[str]:
        """The rows of a query, one string each."""
        command = ["docker", "compose", "-p", "postgres", "exec", "-T", "postgres"]
        command += ["psql", "-U", "postgres", "-d", database, "-At", "-c", query]
        return self.ssh(shlex.join(command)).splitlines()

    def reboot(self) -> None:
        """Restart the droplet, as a power cycle would."""
        docker.from_env(timeout=300).containers.get(f"{self.name}-{self.host}").restart(timeout=60)

    def module_calls(self, since: float) -> int:
        """How many of our modules ran on the host, by its own journal. since: seconds since the epoch."""
        lines = self.ssh(f"journalctl --sync; journalctl --since @{math.ceil(since)} -o short").splitlines()
        return sum("ansible-flotilla_" in line and "Invoked with" in line for line in lines)

    def containers(self, project: str) -> dict[str, str]:
        """The containers of a Compose project, stopped ones too: name → id."""
        command = ["docker", "ps", "--all", "--no-trunc", "--format", "{{.Names}} {{.ID}}"]
        listing = self.ssh(shlex.join([*command, "--filter", f"label=com.docker.compose.project={project}"]))
        return dict(line.split() for line in listing.splitlines())

    def colours(self, app: str = APP) -> dict[str, dict[str, str]]:
        """The colours of an app that exist, with their containers."""
        found = {colour: self.containers(f"{app}-{colour}") for colour in COLOURS}
        return {colour: containers for colour, containers in found.items() if containers}

    def journal(self, app: str = APP) -> dict[str, Any]:
        """The host's journal of an app: its phase, what is live, and the release in hand."""
        journal: dict[str, Any] = json.loads(self.ssh(f"cat /opt/{app}/state.json"))
        return journal

    # -- what a user sees -----------------------------------------------------------------------

    def fetch(self, path: str, *, domain: str = "", tls: bool = True, timeout: float = 60.0) -> Answer:
        """GET a path from the host. Redirects are not followed."""
        domain = domain or self.domain
        connection: http.client.HTTPConnection
        if tls:
            connection = PinnedConnection(self.address, domain, ssl.create_default_context(cafile=self.ca), timeout)
        else:
            connection = http.client.HTTPConnection(self.address, 80, timeout=timeout)
        try:
            connection.request("GET", path, headers={"Host": domain})
            answer = connection.getresponse()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, headers, answer.read())
        finally:
            connection.close()

    def live(self, domain: str = "") -> Live:
        """Who serves, in the app's own words."""
        answer = self.fetch("/api/version", domain=domain)
        assert answer.status == 200, f"/api/version answered {answer.status}: {answer.body[:300]!r}"
        said = answer.json()
        return Live(said["version"], said["release"], said["colour"], said["host"])

    def live_within(self, seconds: float, domain: str = "") -> Live:
        """Who serves, as soon as somebody does steadily: each of the edge's processes finds its way back by itself."""
        deadline = time.monotonic() + seconds
        answers: list[Live] = []
        while len(answers) < STEADY_ANSWERS:
            try:
                answers.append(self.live(domain))
            except (OSError, http.client.HTTPException, AssertionError):
                if time.monotonic() >= deadline:
                    raise
                answers.clear()
                time.sleep(0.5)
        return answers[-1]


def lab_up(environment: Environment, lab: Lab, *, packages: bool = False) -> None:
    """A fresh lab with its secrets.

    packages: its hosts are not bare, but have what the roles `base` and `docker` install.

    One lab at a time: two that start together would take the same network, and build the same images twice.
    """
    environment.directory.parent.mkdir(exist_ok=True)
    with (environment.directory.parent / ".e2e-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lab_playbook(
            environment,
            *("-e", "lab_index=auto", "-e", "lab_https_port=0", "-e", "lab_http_port=0"),
            *(
                "-e",
                json.dumps(
                    {
                        "lab_app_versions": list(lab.versions),
                        "lab_hub_images_custom": list(lab.hub_images),
                        "lab_packages": packages,
                    }
                ),
            ),
        )
    environment.playbook("playbooks/secrets.yml", "-e", f"@{environment.directory}/given_secrets.yml").succeeded()
    authorities = [(environment.directory / "ca.crt").read_text(), *environment.authorities()]
    (environment.directory / "trusted.crt").write_text("".join(authorities))


def lab_down(environment: Environment) -> None:
    """Remove everything that the lab made."""
    Engine(environment.name).remove_all()
    shutil.rmtree(environment.directory, ignore_errors=True)


def lab_playbook(environment: Environment, *arguments: str) -> None:
    inventories = [word for path in (environment.inventory, *environment.overlays) for word in ("-i", str(path))]
    named = (*inventories, "-e", f"lab_name={environment.name}")
    run_ansible("ansible-playbook", "playbooks/lab.yml", *named, *arguments, seconds=900).succeeded()
