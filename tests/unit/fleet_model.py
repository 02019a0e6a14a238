"""A fleet in a directory: the real phases and the real decisions, over an engine that is a dictionary.

A host's side effects are counted. At any of them its call can die, and after each of them the promise is checked:
some proven release serves, or the one that is being committed; never neither. What a host keeps on disk is written and
read by the code under test, and read once after each write: the promise is looked at a hundred thousand times.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any
from unittest import mock

from flotilla import release as release_module
from flotilla import retention
from flotilla.admission import describe, look_at_lock
from flotilla.balancer import balancer_trouble
from flotilla.edge import Edge
from flotilla.engine import Engine
from flotilla.fleet import Step
from flotilla.journal import Colour, Journal, Phase, Slot
from flotilla.lease import LeaseFile
from flotilla.registered import (
    at_rest,
    came_to,
    drained,
    end,
    go_on,
    locked,
    plan,
    prepared,
    recovered,
    recovery_turns,
    returning,
    turns,
    withheld,
)
from flotilla.release import RELEASE_ERRORS, Rollout
from flotilla.run import parse_run
from flotilla.settings import Settings, parse
from flotilla.site import PhaseError, Site
from flotilla.store import Release, Standing, Store
from flotilla.traffic import Traffic
from flotilla.window import Window, WindowError

Result = dict[str, Any]
UNREACHABLE: Result = {"unreachable": True, "msg": "no route to host"}
BROKEN: Result = {"failed": True, "msg": "the module died"}


class Died(BaseException):
    """A call was killed on its host. Not an Exception: nothing in the code under test can catch it."""


@dataclass
class FakeEngine:
    """What runs in each colour, and which release it is."""

    running: dict[Colour, set[str]] = field(default_factory=lambda: {colour: set() for colour in Colour})
    release: dict[Colour, str] = field(default_factory=dict)

    def image(self, reference: str) -> dict[str, Any]:
        return {"RepoTags": ["flotilla/kept"]}

    def untag(self, reference: str) -> None:
        pass


@dataclass(frozen=True)
class FakeStore(Store):
    """The real store; each change of what became of a release is a place to die."""

    host: Host
    seen: dict[str, Release | None] = field(default_factory=dict)

    def read(self, release: str) -> Release | None:
        if release not in self.seen:
            self.seen[release] = super().read(release)
        return self.seen[release]

    def write(self, release: Release) -> None:
        self.seen.pop(release.id, None)
        super().write(release)

    def remove(self, release: str) -> None:
        self.seen.pop(release, None)
        super().remove(release)

    def mark(self, release: str, standing: Standing, **changes: Any) -> None:
        self.host.tick()
        super().mark(release, standing, **changes)

    def record(self, entry: Mapping[str, Any]) -> None:
        self.host.tick()
        super().record(entry)


@dataclass(frozen=True)
class FakeEdge(Edge):
    """The real flags; each switch is a place to die."""

    host: Host
    seen: list[Colour | None] = field(default_factory=list)

    def live(self) -> Colour | None:
        if not self.seen:
            self.seen.append(super().live())
        return self.seen[0]

    def switch(self, colour: Colour | None) -> None:
        self.host.tick()
        super().switch(colour)
        self.seen.clear()
        self.host.tick()


BALANCER = "lb-1"


@dataclass
class FakeColour:
    """One colour of the fake engine, with the methods of `ColourProject` that the phases use."""

    host: Host
    slot: Slot

    @property
    def services(self) -> set[str]:
        return self.host.engine.running[self.slot.colour]

    def up(self, services: Sequence[str], *, deadline: float) -> None:
        self.host.tick()
        self.host.engine.release[self.slot.colour] = self.slot.release
        self.services.update(services)
        self.host.tick()

    def wait_ready(self, services: Sequence[str], *, deadline: float, stable_seconds: float) -> None:
        self.host.tick()

    def stop(self, services: Sequence[str]) -> None:
        self.services.difference_update(services)
        self.host.tick()

    def restart(self, services: Sequence[str]) -> None:
        self.services.update(services)
        self.host.tick()

    def drain(self, seconds: float, *, switched_seconds: float = 0.0) -> int:
        self.host.tick()
        return 0

    def last_lines(self, lines: int) -> str:
        return ""

    def remove(self, *, graceful: bool = True) -> bool:
        for service in sorted(self.services):
            self.services.discard(service)
            self.host.tick()
        self.host.engine.release.pop(self.slot.colour, None)
        return True


@dataclass
class FakeObservation:
    """A release is reached when it runs where the edge points, and lives up to its window unless it is bad."""

    site: FakeSite
    slot: Slot
    record: Release

    def check(self) -> None:
        self.site.host.tick()
        if "api" not in self.site.host.engine.running[self.slot.colour]:
            raise PhaseError("it has died")

    def verify(self) -> None:
        self.site.host.tick()
        if (
            self.site.edge.live() is not self.slot.colour
            or "api" not in self.site.host.engine.running[self.slot.colour]
        ):
            raise PhaseError("the edge does not reach it")

    def watch(self, log: object, window: Window) -> Traffic:
        self.site.host.tick()
        bad = self.site.host.world.bad
        if self.record.version in bad or (self.site.host.name, self.record.version) in bad:
            raise WindowError("3 of 3 requests failed")
        return Traffic()

    def from_here(self) -> None:
        return None

    def last_place(self) -> None:
        return None


@dataclass(frozen=True)
class FakeSite(Site):
    """The real store, journal, edge and lease below a directory."""

    host: Host = field(kw_only=True)

    @property
    def lease(self) -> LeaseFile:
        return LeaseFile(self.settings.lock, self.settings.root / "guard", self.host.name)

    @property
    def store(self) -> Store:
        return self.host.store

    @property
    def edge(self) -> Edge:
        return self.host.edge

    @property
    def journal(self) -> Journal:
        if self.host.journal is None:
            self.host.journal = super().journal
        return self.host.journal

    def save(self, journal: Journal) -> Journal:
        self.host.tick()
        saved = super().save(journal)
        self.host.journal = None
        self.host.tick()
        return saved

    def colour(self, slot: Slot) -> Any:
        return FakeColour(self.host, slot)


class FakeRollout(Rollout):
    """The real phases; only what a release is made of is not."""

    def prepare(
        self,
        release: str,
        bundle: str,
        router_config: str,
        digests: Mapping[str, str],
        *,
        migrate: bool,
        stop_first: bool = False,
        restore_point: str = "",
    ) -> Result:
        slot = self._begin(release, stop_first)
        version = release.partition("-")[2]

        def steps() -> Release:
            site, host = self.site, host_of(self.site)
            FakeColour(host, slot).remove()
            site.store.directory(release).mkdir(exist_ok=True)
            services = {"start_with_colour": ["api"], "start_at_commit": ["worker"], "one_shots": []}
            record = Release(release, version, version, "", {}, services=services, restore_point=restore_point)
            site.store.write(record)
            if not site.journal.stop_first:
                FakePreparation(site, slot).boot(record)
            return record

        return self._prepared(slot, steps)

    def reactivate(self, release: str, *, stop_first: bool = False, reissue: Mapping[str, str] | None = None) -> Result:
        slot = self._begin(release, stop_first)

        def steps() -> Release:
            FakeColour(host_of(self.site), slot).remove()
            record = self.site.release(release)
            if not self.site.journal.stop_first:
                FakePreparation(self.site, slot).boot(record)
            return record

        return self._prepared(slot, steps)


@dataclass
class FakePreparation:
    """What boots a colour."""

    site: Site
    slot: Slot

    def boot(self, record: Release) -> None:
        host = host_of(self.site)
        FakeColour(host, self.slot).up(["api"], deadline=0.0)
        if record.version in host.world.unbootable:
            raise PhaseError("it crashed")
        running = [colour for colour in Colour if "api" in host.engine.running[colour]]
        assert len(running) == 1 or not self.site.journal.stop_first, f"{host.name}: both colours run"


def host_of(site: Site) -> Host:
    assert isinstance(site, FakeSite)
    return site.host


@dataclass
class Host:
    """One app host. left: side effects until its call dies; None when it does not.

    drained: the balancer sends it no traffic.  stuck: its checks do not pass, so it is not taken back.
    journal: as it was read since it was written last.
    """

    name: str
    root: Path
    world: World
    engine: FakeEngine = field(default_factory=FakeEngine)
    journal: Journal | None = None
    left: int | None = None
    died: bool = False
    drained: bool = False
    stuck: bool = False

    def tick(self) -> None:
        """A side effect happened, or is about to."""
        self.check()
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                self.died = True
                raise Died

    def site(self, run: Mapping[str, Any] | None = None, **params: Any) -> FakeSite:
        return FakeSite(self.settings, Engine(), parse_run({"run": run or {}, **params}), host=self)

    @cached_property
    def settings(self) -> Settings:
        app = {"name": "notes", "source": "compose/app", "version": "", "keep_releases": 2}
        return parse({"app": app, "host": self.name, "inventory": "i", "root": self.root, "edge": self.root / "edge"})

    @cached_property
    def store(self) -> FakeStore:
        return FakeStore(self.settings.base, self)

    @cached_property
    def edge(self) -> FakeEdge:
        return FakeEdge(self.settings.edge / "live" / self.settings.name, self)

    @cached_property
    def looked_at(self) -> FakeSite:
        """The site of nobody's run."""
        return self.site()

    def serves(self) -> str:
        """The release that requests reach; empty for the 503 page."""
        return self.looked_at.serving()["release"]

    def check(self) -> None:
        """The promise, at this very moment."""
        site = self.looked_at
        journal, live = site.journal, site.edge.live()
        if live is None:
            assert journal.live is None, f"{self.name} serves nothing, and {journal.live} did"
            return
        serving = site.serving()["release"]
        assert serving, f"{self.name}: the edge points to {live}, which is no release of {journal}"
        if not self.drained:
            assert "api" in self.engine.running[live], f"{self.name}: {live} serves and does not run ({journal.phase})"
            assert self.engine.release[live] == serving, f"{self.name}: {live} runs {self.engine.release[live]}"
        assert not all(host.drained for host in self.world.hosts.values()), "no host gets the traffic"
        if journal.live is None or serving != journal.live.release:
            assert journal.phase in (Phase.COMMITTING, Phase.COMMITTED, Phase.ABORTING, Phase.FINISHING)
        workers = [colour for colour in Colour if "worker" in self.engine.running[colour]]
        assert len(workers) <= 1, f"{self.name}: workers of both colours run"


@dataclass
class Fault:
    """What goes wrong in one task of a run.

    cut: host → how its call ends: `never` (the host is not reached), a number (it dies after so many side effects),
    `unheard` (it does its work and nobody hears of it), `gone` (so, and from then on it is not reached).
    fatal: the controller dies with the task.
    """

    task: int
    cut: dict[str, int | str]
    fatal: bool = False


class ControllerDiedError(Exception):
    """The run ended here; only the hosts know how far it came."""


@dataclass
class World:
    """Hosts, and which versions are no good: everywhere, or on one host. order: that of all releases."""

    count: int = 2
    order: str = "start-first"
    bad: set[str | tuple[str, str]] = field(default_factory=set)
    unbootable: set[str] = field(default_factory=set)
    hosts: dict[str, Host] = field(default_factory=dict)
    serial: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    base: Path = field(
        default_factory=lambda: Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    )

    def __post_init__(self) -> None:
        for number in range(1, self.count + 1):
            name = f"app-{number}"
            self.hosts[name] = Host(name, self.base / name, self)

    def close(self) -> None:
        shutil.rmtree(self.base)

    def releases(self) -> set[str]:
        return {host.serves() for host in self.hosts.values()}

    @contextmanager
    def faked(self) -> Iterator[None]:
        """No network, no disk to run out of."""
        with (
            mock.patch.object(release_module, "Observation", FakeObservation),
            mock.patch.object(release_module, "Preparation", FakePreparation),
            mock.patch.object(retention, "prune_images", lambda *_: None),
        ):
            yield

    # -- a run of a playbook, in the order of roles/app/tasks ------------------------------------

    def deploy(
        self, version: str, *, fault: Fault | None = None, skip: Sequence[str] = (), action: str = "rollback"
    ) -> str:
        """`deploy.yml`; returns the outcome."""
        return self._run("deploy", version, fault, skip, action)

    def rollback(self, *, wanted: str = "", fault: Fault | None = None, skip: Sequence[str] = ()) -> str:
        """`rollback.yml`; returns the outcome."""
        return self._run("rollback", wanted, fault, skip, "rollback")

    def _run(self, kind: str, version: str, fault: Fault | None, skip: Sequence[str], action: str) -> str:
        with self.faked():
            return Play(self, kind, version, fault, [name for name in self.hosts if name not in skip], action).run()


@dataclass
class Play:
    """One run: `hostvars` is what the tasks registered."""

    world: World
    kind: str
    version: str
    fault: Fault | None
    names: list[str]
    action: str
    tasks: int = 0
    hostvars: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        number = next(self.world.serial)
        self.identity = {"token": f"token-{number}", "owner": "me", "started": 1.0}
        self.release = f"{number:04}-{self.version}"
        self.purpose = f"{self.kind} {number}"
        self.hostvars = {name: {} for name in self.world.hosts}
        out = [f"notes/{name}" for name, host in self.world.hosts.items() if host.drained]
        self.hostvars[BALANCER] = {"preflight_host": {"drained": out}}

    @property
    def context(self) -> dict[str, Any]:
        return {
            "action": self.kind,
            "app": {"name": "notes", "version": self.version},
            "hosts": self.names,
            "skipped": [name for name in self.world.hosts if name not in self.names],
            "token": self.identity["token"],
            "command": "again",
            "purpose": self.purpose,
            "release": self.release,
            "wanted": self.version if self.kind == "rollback" else "",
            "check": False,
        }

    def plan(self) -> dict[str, Any]:
        with mock.patch("flotilla.registered.is_dead", lambda machine, process: True):
            return plan(self.hostvars, self.context)

    def task(self, name: str, hosts: Sequence[str], call: Callable[[str, FakeRollout], Result], **params: Any) -> None:
        """One task on its hosts; on the others the result is a skipped one."""
        self.tasks += 1
        fault = self.fault if self.fault and self.fault.task == self.tasks else None
        gone = self.fault.cut if self.fault and self.fault.task < self.tasks else {}
        for host in self.names:
            if host not in hosts:
                self.hostvars[host][name] = {"skipped": True, **self._kept(host, name)}
                continue
            cut = "never" if gone.get(host) == "gone" else fault.cut.get(host) if fault else None
            result = self._call(self.world.hosts[host], cut, partial(call, host), params)
            self.hostvars[host][name] = result
        if fault and fault.fatal:
            raise ControllerDiedError

    def _kept(self, host: str, name: str) -> Result:
        if not self.keeping and (name != "app_committed" or self.tasks_of_commit == 0):
            return {}
        before = self.hostvars[host].get(name, {})
        lost = {"lost": True} if before.get("unreachable") or before.get("failed") or before.get("lost") else {}
        return {
            key: before[key] for key in ("ok", "purpose", "serves", "explanation", "refused") if key in before
        } | lost

    tasks_of_commit: int = 0
    # Whether a task of the same name ran before on other hosts, whose results stay.
    keeping: bool = False

    def _call(
        self, host: Host, cut: int | str | None, call: Callable[[FakeRollout], Result], params: Mapping[str, Any]
    ) -> Result:
        if cut == "never":
            return UNREACHABLE
        host.left = cut if isinstance(cut, int) else None
        site = host.site(self.identity, purpose=self.purpose, action=self.kind, **params)
        try:
            result: Result = {"ok": True, **call(FakeRollout(site))}
        except RELEASE_ERRORS as error:
            result = {"ok": False, "explanation": f"{error}"}
        except Died:
            return BROKEN
        finally:
            host.left = None
        host.check()
        return (
            UNREACHABLE if cut in ("unheard", "gone") else {"purpose": self.purpose, "serves": site.serving(), **result}
        )

    # -- the tasks -------------------------------------------------------------------------------

    @property
    def update(self) -> dict[str, Any]:
        return {"failure_action": self.action, "order": self.world.order, "stated": []}

    def ask(self) -> None:
        self.task("app_asked", self.names, self._admit if self.kind == "deploy" else self._survey)

    def _admit(self, host: str, rollout: FakeRollout) -> Result:
        site = rollout.site
        journal = site.journal
        live = site.describe(journal)
        matches = journal.phase is Phase.IDLE and live["version"] == self.version
        return {
            "live": live,
            "live_images": {},
            "images": {},
            "journal": describe(journal),
            "matches": matches,
            "digests": {},
            "update": self.update,
            "lock": look_at_lock(site, take=host == self.names[0] and not matches),
        }

    def _survey(self, host: str, rollout: FakeRollout) -> Result:
        site = rollout.site
        held = {"lacks": "", "update": self.update, "rollback": {}}
        releases = [
            {**held, "id": r.id, "version": r.version, "standing": str(r.standing)} for r in site.store.releases()
        ]
        return {
            "live": site.describe(site.journal),
            "journal": describe(site.journal),
            "releases": releases,
            "barriers": [],
            "lock": look_at_lock(site, take=host == self.names[0]),
        }

    def run(self) -> str:
        self.ask()
        first = self.plan()
        if first["first"]:
            self.task("app_locked", self.names[:1], lambda _, one: one.lock(), superseded=first["superseded"])
            if locked(self.hostvars, first):
                steps, in_turn = first["recover"], recovery_turns(self.hostvars, first)
                for hosts in self._in_turn([host for host in steps if host not in in_turn], in_turn):
                    self.task(
                        "app_recovered",
                        hosts,
                        lambda host, one: one.recover(Step(steps[host]), "cut short"),
                        superseded=first["superseded"],
                    )
                    whole = {*recovered(self.hostvars, first), *self.names} - {*in_turn, *steps}
                    self._take_back(self.names, self.names, [*recovered(self.hostvars, first), *whole])
            self.ask()
        planned = self.plan()
        if planned["go"]:
            first_stop = planned["roll"]["order"] == "stop-first"
            self.task(
                "app_prepared",
                planned["work"],
                lambda _, one: (
                    one.prepare(self.release, "", "", {}, migrate=False, stop_first=first_stop)
                    if self.kind == "deploy"
                    else one.reactivate(planned["release"], stop_first=first_stop)
                ),
                superseded=planned["superseded"],
            )
        if prepared(self.hostvars, planned):
            self._commit(planned)
        ways = end(self.hostvars, planned)
        calls: dict[str, Callable[[FakeRollout], Result]] = {
            "finish": lambda one: one.finish(),
            "abort": lambda one: one.abort("trouble"),
            "release": lambda one: one.release(),
        }
        in_turn = turns(self.hostvars, planned)
        for hosts in self._in_turn([host for host in self.names if ways[host] and host not in in_turn], in_turn):
            self.task("app_ended", hosts, lambda host, one: calls[ways[host]](one))
            self._take_back(in_turn, hosts, at_rest(self.hostvars, planned))
        if drained(self.hostvars, planned, [BALANCER]):
            returned = self._take_back(self.names, self.names, at_rest(self.hostvars, planned))
            for host in self.names:
                self.hostvars[host]["app_returned"] = returned
        if planned["go"]:
            away = self._quarantine({*self.names} - {*at_rest(self.hostvars, planned)})
            for host in self.names:
                self.hostvars[host]["app_kept_away"] = away
        elif planned["refusal"]:
            return "refused"
        elif not withheld(self.hostvars, planned):
            return self._told("unchanged")
        return self._told(str(came_to(self.hostvars, planned)[0]))

    def _told(self, outcome: str) -> str:
        """The outcome: no success, and no way back, while a host of the run is kept from its traffic."""
        out = [name for name in self.names if self.world.hosts[name].drained]
        assert not out or outcome not in ("deployed", "unchanged", "reverted"), f"{outcome}, without traffic to {out}"
        return outcome

    def _commit(self, planned: Mapping[str, Any]) -> None:
        window = Window(1.0, None)  # type: ignore[arg-type]  # the fake watch asks for no limits
        before: list[str] = []
        if planned["roll"]["order"] == "stop-first":
            self._take_back(self.names, self.names, self.names)
        for number, batch in enumerate(planned["roll"]["batches"]):
            self.tasks_of_commit = number
            involved = [*batch, *before] if go_on(self.hostvars, planned) else []
            stop_first = planned["roll"]["order"] == "stop-first"
            if stop_first and involved and not self._drain(batch):
                refused = {"ok": False, "explanation": "the last one", "purpose": self.purpose, "refused": True}
                for host in batch:
                    self.hostvars[host]["app_committed"] = dict(refused)
                involved = []
            own = None if stop_first else window
            self.task("app_committed", involved, partial(self._commit_or_watch, frozenset(batch), own, window))
            if stop_first and (back := returning(self.hostvars, planned, batch)):
                stays_out = balancer_trouble(self._take_back(back, back, back))
                self.keeping = True
                if stays_out:
                    for host in back:
                        self.hostvars[host]["app_committed"] |= {"ok": False, "explanation": stays_out}
                else:
                    self.task("app_committed", back, lambda _, one: one.watch(window))
                self.keeping = False
            before += batch

    # -- the balancer ------------------------------------------------------------------------------

    def _in_turn(self, together: list[str], in_turn: Sequence[str]) -> Iterator[list[str]]:
        """The hosts of each task: some together, the others one after another, drained before."""
        yield together
        self.keeping = True
        for host in in_turn:
            if self._drain([host]):
                yield [host]
        self.keeping = False

    def _drain(self, hosts: Sequence[str]) -> bool:
        """Whether the balancer did it: it does not part with the last host that takes traffic."""
        left = {name for name, host in self.world.hosts.items() if not host.drained} - {*hosts}
        for host in hosts:
            self.world.hosts[host].drained |= bool(left)
        return all(self.world.hosts[host].drained for host in hosts)

    def _quarantine(self, hosts: Collection[str]) -> Result:
        """A host that was lost gets no traffic before a run has brought it back."""
        trouble = {host: "the last one" for host in sorted(hosts) if not self._drain([host])}
        return self._registered(trouble) if hosts else {}

    @staticmethod
    def _registered(trouble: Mapping[str, str]) -> Result:
        """What a loop over the balancers registers."""
        failed = {"failed": True, "msg": "not all", "trouble": trouble} if trouble else {}
        return {"results": [{"app_balancer": BALANCER, **failed}]}

    def _take_back(self, some: Sequence[str], asked: Sequence[str], well: Sequence[str]) -> Result:
        trouble = {}
        for name in sorted({*some} & {*asked} & {*well}):
            host = self.world.hosts[name]
            host.drained = host.drained and host.stuck
            if host.drained:
                trouble[name] = f"{name} stays out"
        return self._registered(trouble)

    @staticmethod
    def _commit_or_watch(
        batch: frozenset[str], own: Window | None, window: Window, host: str, rollout: FakeRollout
    ) -> Result:
        return rollout.commit(own) if host in batch else rollout.watch(window)


def proven(world: World) -> set[str]:
    """The releases that some host calls proven."""
    kept = {Standing.LIVE, Standing.PROVEN, Standing.ROLLED_BACK}
    return {
        record.id for host in world.hosts.values() for record in host.site().store.releases() if record.standing in kept
    }
