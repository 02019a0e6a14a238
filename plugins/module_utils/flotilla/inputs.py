"""The checks of an environment's inputs, before anything is touched. For the controller only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date
from functools import partial
from operator import getitem
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.loader import filter_loader

from . import acme, backups, exposure, image_support, keyspaces, pooling, struck, volumes
from .approval import Approval, approval, host_choice_problems
from .apps import check_apps, names_of, select, select_served, with_defaults
from .bundle import BundleError, collect
from .hooks import hook_problems
from .inventory import Sources, group_problems, host_problems, misspelt, referenced_secrets, secret_problems
from .pki.services import needs_authority
from .problem import Problem
from .resolve.values import environment_problems
from .roles import HANDED_OVER, options, roles_of
from .static import service_names, static_problems
from .vault import relative, texts_of

MAGIC = frozenset({"groups", "hostvars", "omit", "playbook_dir", "role_names", "play_hosts", "environment", "vars"})


class Check:
    """The checks of one inventory, over the raw (not yet templated) variables of all its hosts."""

    def __init__(
        self, variables: Mapping[str, Any], extra: Mapping[str, Any], templar: Any, playbook: str, root: Path
    ) -> None:
        self.root = root
        paths = [Path(source).absolute() for source in variables.get("ansible_inventory_sources") or []]
        directories = tuple(path if path.is_dir() else path.parent for path in paths if path.exists())
        self.sources = Sources(directories, self.root)
        self.inventory = "".join(f" -i {relative(path, self.root)}" for path in paths)
        self.command = f"ansible-playbook {playbook}{self.inventory}"
        self.variables, self.extra, self.templar = variables, extra, templar
        self.roles = options(self.root / "roles")
        self.groups = {
            name: list(hosts) for name, hosts in variables["groups"].items() if name not in ("all", "ungrouped")
        }
        self.hostvars = variables["hostvars"]
        self.hosts: dict[str, dict[str, Any]] = {
            host: {
                name: value
                for name, value in self.hostvars.raw_get(host).items()
                if name not in MAGIC and not name.startswith("ansible_")
            }
            for host in variables["groups"]["all"]
        }

    def hosts_of_this_run(self, *, part: bool = False) -> Iterator[Problem]:
        """Which hosts are there, and which were left out. part: whether a part of them will do."""
        yield from group_problems(self.groups, self.sources)
        if part:
            return
        present = self.variables.get("ansible_play_hosts_all") or self.variables["groups"]["all"]
        skipped = self.extra.get("skip_hosts") or ""
        limited = bool(self.variables.get("ansible_limit"))
        yield from host_choice_problems(self.groups, present, skipped, limited=limited, command=self.command)

    def approval(self, apps: list[dict[str, Any]], *, rollback: bool) -> Approval:
        """Whether the environment wants the run approved, and whether it is."""
        needed = bool(self.templar.template(self.variables.get("environment_approval", False)))
        environment = str(self.templar.template(self.variables.get("environment_name", "")))
        listing = rollback and bool(self.extra.get("list"))
        return approval(
            needed=needed and not listing,
            environment=environment,
            apps=[f"{app['name']} {app.get('version', '')}".strip() for app in apps],
            extra=self.extra,
            variable="release" if rollback else "version",
            command=self.command,
        )

    def apps_that_serve(self, *, one: bool) -> tuple[list[dict[str, Any]], list[Problem]]:
        """The one app of a rollback or a restart, or all. Sources and secrets are the hosts': nobody looks at them."""
        try:
            apps = self._readable(self.variables.get("apps"))
        except AnsibleError as error:
            what = f"cannot be worked out: {str(error).splitlines()[0].rstrip('.')}"
            return [], [Problem(self.sources.place("apps"), "apps", what, "correct the template")]
        problems = self._shape(apps)
        if problems:
            return [], problems
        chosen, problems = select_served(apps, self.extra.get("app"), self.command, one=one)
        return [with_defaults(app) for app in chosen], problems

    def environment(self, *, part: bool = False) -> Iterator[Problem]:
        """Groups, hosts, names, secrets, and the types of the roles' variables."""
        yield from self.hosts_of_this_run(part=part)
        yield from host_problems(self.hosts, self.sources)
        names = {name for variables in self.hosts.values() for name in variables}
        for name, what in misspelt(names, self.roles).items():
            # Neither there nor here: a task of this run made it.
            place = "command line" if name in self.extra else self.sources.find(name)
            if place:
                yield Problem(place, name, what, "correct the name, or remove it")
        given = self.variables.get("environment_given_secrets") or []
        secrets = f"ansible-playbook playbooks/secrets.yml{self.inventory}"
        yield from secret_problems(self.hosts, given, self.sources, secrets)
        if needs_authority(self.groups) and not all(raw.get("pki_authorities") for raw in self.hosts.values()):
            what = "is missing: nobody signs for Postgres, Redis and edges behind a balancer"
            fix = f'add pki_authorities: "{{{{ vault_pki_authorities }}}}" to group_vars/all/pki.yml, then {secrets}'
            yield Problem(self.sources.last, "pki_authorities", what, fix)
        wrong = list(self._types())
        yield from wrong
        if not any(problem.variable.startswith("firewall_") for problem in wrong):
            yield from self._firewall()
        yield from self._public_certificates(secrets)
        yield from self._backups(secrets)
        yield from self._redis()
        yield from self._struck(self._secrets_of_roles())

    def _backups(self, command: str) -> Iterator[Problem]:
        """Backups that are asked for, and would have no key or no place but the database's own disk."""
        for host in self.groups.get("postgres", []):
            yield from backups.problems(host, self.hosts[host], self.groups.get("backup", []), self.sources, command)
        try:
            apps = self._readable(self.variables.get("apps"))
            hosts = volumes.senders(self.groups, apps, lambda host: bool(self.hostvars[host].get("redis_durable")))
        except AnsibleError:
            # What cannot be worked out was reported with the types.
            return
        if hosts:
            sending, places = {host: self.hosts[host] for host in hosts}, self.groups.get("backup", [])
            declared = bool(volumes.senders(self.groups, apps, lambda _: False))
            raw = sending[hosts[0]]
            yield from volumes.problems(sending, raw, places, self.sources, command, declared=declared)
        buckets = {host: self.hosts[host].get("backup_s3") for host in {*hosts, *self.groups.get("postgres", [])}}
        found = {host: s3 for host, s3 in buckets.items() if isinstance(s3, Mapping)}
        yield from backups.shared_keys(found, self.sources)

    def _redis(self) -> Iterator[Problem]:
        """Apps that could read what another one keeps in Redis: all apps, whichever are deployed."""
        handed = {str(app.get("name")): self._texts_of(app) for app in self._listed() if isinstance(app, Mapping)}
        told: list[Problem] = []
        for host in self.groups.get("redis", []):
            specs, variables = self.roles["redis"], self.hostvars[host]
            try:
                mine = {name: variables.get(name, spec.get("default")) for name, spec in specs.items()}
                found = keyspaces.logins(mine["redis_password"], mine["redis_keys"], mine["redis_users"])
                operator = str(mine["redis_operator_password"] or "")
            except (AnsibleError, KeyError, TypeError):
                # What cannot be worked out, or has another type, was reported with the types.
                continue
            told += keyspaces.problems(found, operator, mine["redis_acl_rules"], self.sources.place)
            passwords = {login.name: login.password for login in found} | {keyspaces.OPERATOR: operator}
            told += keyspaces.handed_twice(passwords, handed, self._place)
        yield from dict.fromkeys(told)

    def _listed(self) -> list[Any]:
        apps = self._worked_out(lambda: self._readable(self.variables.get("apps")))
        return apps if isinstance(apps, list) else []

    def _texts_of(self, app: Mapping[str, Any]) -> list[str]:
        """What an app is handed, as texts."""
        given = [value for key in ("environment", "secrets") for value in dict(app.get(key) or {}).values()]
        return [str(self._worked_out(partial(self.templar.template, value)) or "") for value in given]

    def unsupported_images(self, today: date) -> list[Problem]:
        """Images of the hosts' stacks that leave support, or have left it. They are warnings: nothing is refused."""
        found: list[image_support.Used] = []
        for host in self.hosts:
            groups = [group for group, members in self.groups.items() if host in members]
            try:
                found += image_support.used(groups, self.hostvars[host], self.roles)
            except AnsibleError:
                # What cannot be worked out was reported with the types.
                continue
        return list(image_support.problems(found, today, self.sources, self.inventory))

    def _firewall(self) -> Iterator[Problem]:
        """The firewall's variables of each host, whose types are right."""
        for host in self.hosts:
            try:
                declared = exposure.declared(self.hostvars[host], self.roles["firewall"])
            except AnsibleError:
                # It lacks a secret, which is told already.
                continue
            yield from exposure.problems(declared, self.sources)

    def _types(self) -> Iterator[Problem]:
        """Each host's variables against the argument specs of the roles it gets, but for those that lack a secret."""
        for host, raw in self.hosts.items():
            groups = [group for group, members in self.groups.items() if host in members]
            for role in roles_of(groups):
                for name, spec in self.roles.get(role, {}).items():
                    if name in raw and not referenced_secrets(raw[name]) <= raw.keys():
                        continue
                    if name in raw:
                        what = self._type_error(host, name, spec)
                        if what:
                            yield Problem(self.sources.place(name), name, what, f"see roles/{role}/README.md")
                    elif spec.get("required") and role != "app" and name not in HANDED_OVER:
                        what = f"is missing, and the role `{role}` of `{host}` needs it"
                        yield Problem(
                            self.sources.last, name, what, f"add it to group_vars; see roles/{role}/README.md"
                        )

    def _public_certificates(self, command: str) -> Iterator[Problem]:
        """What stands in the way of certificates by ACME. What cannot be worked out was reported with the types."""
        for host in self.hosts:
            try:
                if not acme.wanted(host, self.hostvars[host], self.groups):
                    continue
                apps = self._readable(self.hosts[host].get("apps")) or []
                apps = [app for app in apps if isinstance(app, Mapping)]
                yield from acme.problems(self.hostvars[host], apps, self._acme_place, command)
            except AnsibleError:
                continue

    def _acme_place(self, name: str) -> str:
        return self._place(name) if name == "domains" else self.sources.place(name)

    def _type_error(self, host: str, name: str, spec: Mapping[str, Any]) -> str:
        try:
            value = self.hostvars[host][name]
        except AnsibleError as error:
            return f"cannot be worked out: {str(error).splitlines()[0].rstrip('.')}"
        result = ArgumentSpecValidator({name: spec}).validate({name: value})
        if not result.error_messages:
            return ""
        return f"is not what it should be: {self._without_secrets(host, '; '.join(result.error_messages))}"

    def _without_secrets(self, host: str, text: str) -> str:
        """A message of Ansible may quote a value; a secret in it is struck out."""
        for name, value in self.hosts[host].items():
            if name.startswith("vault_"):
                for secret in texts_of(value):
                    text = text.replace(secret, "********").replace(repr(secret)[1:-1], "********")
        return text

    def apps(self, *, needs_version: bool = True) -> tuple[list[dict[str, Any]], list[Problem]]:
        """The apps to deploy with defaults and versions, and what is wrong with them or their Compose files.

        Without `needs_version`, an app may leave its version to the command line of the deploy.
        """
        try:
            apps = self._readable(self.variables.get("apps"))
        except AnsibleError as error:
            what = f"cannot be worked out: {str(error).splitlines()[0].rstrip('.')}"
            return [], [Problem(self.sources.place("apps"), "apps", what, "correct the template")]
        problems = self._shape(apps)
        if problems:
            return [], problems
        if not needs_version:
            apps = [{"version": "0", **app} for app in apps]
        allow_latest = bool(self.templar.template(self.variables.get("environment_allow_latest", False)))
        chosen, problems = select(
            apps, self.extra.get("app"), self.extra.get("version"), allow_latest, self._place, self.command
        )
        for app in chosen:
            problems += self._routes(app)
            problems += self._compose(app, allow_latest)
            problems += self._struck(self._secrets_of_app(app["name"]), self._words_of_app(app))
        problems += self._connections(apps)
        return [with_defaults(app) for app in chosen], problems

    def _connections(self, apps: list[dict[str, Any]]) -> list[Problem]:
        """What the database has too few connections for, as far as the apps declare them: all apps, not the chosen."""
        found: list[Problem] = []
        for app in apps:
            try:
                services = service_names((self.root / app["source"] / "compose.yaml").read_text())
            except OSError:
                continue
            found += pooling.unknown_services(app, services, self._place("database_connections"))
        for host in self.groups.get("postgres", []):
            try:
                room = self._room(self.hostvars[host])
            except (AnsibleError, ValueError, TypeError):
                # Told with the types, or by the role's own check.
                continue
            hosts = len(self.groups.get("app", []))
            found += pooling.problems(apps, hosts, room, self._place, self.command)
        return found

    def _room(self, variables: Mapping[str, Any]) -> pooling.Room:
        """How many connections a host's Postgres takes, as the role has it where the inventory is silent."""
        specs = self.roles["postgres"]
        mine = {name: variables.get(name, spec.get("default")) for name, spec in specs.items()}
        derived = filter_loader.get("flotilla_postgres_memory").j2_function(
            mine["postgres_memory_mb"], mine["postgres_max_connections"], mine["postgres_pids"]
        )
        return pooling.Room(
            max_connections=int((mine["postgres_settings"] or {}).get("max_connections", derived["max_connections"])),
            direct=int(mine["postgres_direct_connections"]),
            clients=int(mine["postgres_pooler_max_clients"]) if mine["postgres_pooler"] else 0,
        )

    def _shape(self, apps: Any) -> list[Problem]:
        """What is wrong with the keys of the apps; and, where nothing is, with their hooks."""
        problems = check_apps(apps, self._place)
        if problems:
            return problems
        return [
            problem for app in apps for problem in hook_problems(app, self._place, lambda f: (self.root / f).is_file())
        ]

    def _place(self, name: str) -> str:
        return self.sources.place(name, within="apps")

    def _struck(self, handed: Iterable[struck.Handed], words: Iterable[str] = ()) -> list[Problem]:
        """Secrets that would be struck out of what hosts answer."""
        given = self.variables.get("environment_given_secrets") or []
        command = f"ansible-playbook playbooks/secrets.yml{self.inventory}"
        return list(struck.problems(handed, {*words, *struck.words_of_hosts(self.hosts)}, given, command))

    def _secrets_of_roles(self) -> Iterator[struck.Handed]:
        for host, raw in self.hosts.items():
            for name in struck.OF_ROLES:
                if name in raw and (value := self._worked_out(partial(getitem, self.hostvars[host], name))):
                    yield struck.Handed(name, self.sources.place(name), raw[name], value)

    def _secrets_of_app(self, app: str) -> Iterator[struck.Handed]:
        entry = next(entry for entry in self._readable(self.variables["apps"]) if entry["name"] == app)
        for name, raw in (entry.get("secrets") or {}).items():
            value = self._worked_out(partial(self.templar.template, raw))
            yield struck.Handed(f"apps[{app}].secrets.{name}", self._place(name), raw, value, app=True)

    def _words_of_app(self, app: Mapping[str, Any]) -> set[str]:
        try:
            text = (self.root / app["source"] / "compose.yaml").read_text()
        except OSError:
            return struck.words_of_app(app, ())
        return struck.words_of_app(app, service_names(text))

    def _worked_out(self, value: Callable[[], Any]) -> Any:
        """A value, or nothing where a template in it does not work out, which is told elsewhere."""
        try:
            return value()
        except AnsibleError:
            return None

    def _readable(self, apps: Any) -> Any:
        """`apps` with its templates worked out, but for values that may be secret: they stay as written."""
        apps = self.templar.template(apps) if isinstance(apps, str) else apps
        if not isinstance(apps, list):
            return apps
        return [
            {
                name: value if name in ("environment", "secrets") else self.templar.template(value)
                for name, value in app.items()
            }
            if isinstance(app, Mapping)
            else app
            for app in apps
        ]

    def _routes(self, app: Mapping[str, Any]) -> list[Problem]:
        """What the router says of an app's routes."""
        try:
            filter_loader.get("flotilla_routes").j2_function(app)
        except AnsibleError as error:
            pairs = [line.partition(": ") for line in str(error).splitlines()]
            place = self._place("routes")
            return [Problem(place, name, what, "correct it: docs/reference/inventory.md") for name, _, what in pairs]
        return []

    def _compose(self, app: Mapping[str, Any], allow_latest: bool) -> list[Problem]:
        """What can be said about an app's Compose file without Compose."""
        file = self.root / app["source"] / "compose.yaml"
        shown = relative(file, self.root)
        problems = environment_problems(app["name"], names_of(app, "environment"), self._place("environment"))
        try:
            text = file.read_text()
        except OSError as error:
            what = f"`{app['source']}` has no compose.yaml that can be read ({error.strerror})"
            fix = f"put the app's Compose file at {shown}, or correct source"
            return [*problems, Problem(self._place("source"), f"apps[{app['name']}].source", what, fix)]
        problems += static_problems(
            text,
            file=shown,
            inventory=self._place("apps"),
            app=app["name"],
            variables=names_of(app, "environment"),
            secrets=names_of(app, "secrets"),
            routes=app["routes"],
            migration=(app.get("migration") or {}).get("service"),
            workers=app.get("workers", []),
            shared=app.get("shared", []),
            unchecked=app.get("routes_without_health_check", []),
            privileges=app.get("privileges", {}),
            secret_variables=app.get("secret_variables", {}),
            backup_volumes=app.get("backup_volumes", []),
            allow_latest=allow_latest,
        )
        return problems + self._bundle(app)

    def _bundle(self, app: Mapping[str, Any]) -> list[Problem]:
        """What keeps the files that an app's Compose file names from a host."""
        try:
            collect(self.root / app["source"], app.get("privileges", {}))
        except BundleError as error:
            where, _, rest = str(error).replace(f"{self.root}/", "").partition(": ")
            what, _, fix = rest.partition(". Next: ")
            # Text that is no YAML was told already, with its line.
            return [] if what.startswith("is not YAML") else [Problem(where, "(files)", what, fix)]
        return []
