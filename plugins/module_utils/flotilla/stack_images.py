"""The images that a host runs: how old they are, whether a registry has newer ones, and how they are renewed.

For the host. A tag is a pin there: it means what was pulled under it until `Images.fetch` moves it. An image that was
built on the host (pgBackRest in Postgres', PgBouncer) has a base, which the stack's `.env` names, and its own packages.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .engine import Engine, EngineError, registry_of
from .registry import ImageTrouble, classify
from .resolve.images import parse
from .view import VIEW_ERRORS, View

# The Compose projects of Flotilla's own, in the order in which they are renewed.
STACKS = ("haproxy", "nginx", "redis", "postgres", "pgbouncer")
ASK_SECONDS = 10.0
PACKAGES_SECONDS = 180.0
BASE_NAME, BASE_DIGEST = (f"org.opencontainers.image.base.{what}" for what in ("name", "digest"))
_NAMES = "dpkg-query --show --showformat '${Package}\\n' 2> /dev/null || :"
# `Inst <name> [<old>] (<new> …`, source: apt-get(8), --simulate.
_INST = re.compile(r"^Inst (\S+) \[", re.MULTILINE)
_CODENAME = re.compile(r"^VERSION_CODENAME=[\"']?([\w-]+)", re.MULTILINE)
_BASE = re.compile(r"^\w+_BASE='?([^'\n]+)'?$", re.MULTILINE)
_WORDS = {
    ImageTrouble.NOT_FOUND: "has no such image",
    ImageTrouble.LOGIN: "refused the login",
    ImageTrouble.UNREACHABLE: "cannot be reached",
}


class RenewalError(Exception):
    """An image must not take another one's place. The message is for a person, and names the next step."""


@dataclass(frozen=True)
class Image:
    """What a container, or an app's service, runs.

    what: a stack, or an app and its service.  image: its reference; of one that was built on the host, its base's.
    built: the reference of one that was built.  id: the engine's, of what runs.
    days, base_days: its age, and that of its lowest layer; None where nobody knows.
    base: the name of an app's base, where its labels say it.
    digests: what registries call what runs; of one that was built, and of an app's with a base, what they call that.
    newest: what the registry calls the same now; empty where it was not asked or did not say, and `note` is why.
    moved: whether the reference means another image on this host by now.
    packages: those of a built one that have newer versions.
    """

    what: str
    image: str
    built: str = ""
    id: str = ""
    days: int | None = None
    base_days: int | None = None
    base: str = ""
    digests: tuple[str, ...] = ()
    newest: str = ""
    note: str = ""
    moved: bool = False
    packages: tuple[str, ...] = ()

    @property
    def pinned(self) -> bool:
        """Whether its reference has a digest: then it is never another one."""
        return "@" in self.image

    @property
    def newer(self) -> bool:
        """Whether the registry has another build than the one that runs."""
        return bool(self.newest) and self.newest not in self.digests

    @property
    def due(self) -> str:
        """Why it is to be renewed, for a person; empty where it is not. An app's is renewed by a deploy."""
        if self.what not in STACKS:
            return ""
        if self.newer and not self.pinned:
            return f"{self.what} ({self.image} has a newer build)"
        if self.moved:
            return f"{self.what} (it runs an older build of {self.image} than the host has)"
        return f"{self.what} (newer: {', '.join(self.packages)})" if self.packages else ""

    def as_data(self) -> dict[str, Any]:
        return {**asdict(self), "digests": list(self.digests), "packages": list(self.packages), "due": self.due}


def tagged(reference: str) -> str:
    """A reference without its digest, which is what a registry is asked for: `nginx:1.30`."""
    return reference.partition("@")[0]


def days_since(moment: float, now: float) -> int | None:
    """Whole days from a time (epoch seconds) on; None for none, and for the epoch of images that say no time."""
    return max(0, int((now - moment) // 86_400)) if moment > 86_400 else None


def epoch(text: str) -> float:
    """`2026-11-18T07:01:02.123456789Z` in epoch seconds; 0 for something else."""
    try:
        return datetime.fromisoformat(text[:19]).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return 0.0


def refusal(stack: str, image: str, old: str, new: str) -> str:
    """Why a database may not get an image; both texts are of /etc/os-release. Empty where it may.

    Another Debian brings another glibc, which sorts text in another order than the indexes on the disk have.
    """
    before, after = (found[1] if (found := _CODENAME.search(text)) else "" for text in (old, new))
    if stack != "postgres" or before == after or not before:
        return ""
    return (
        f"{image} is built on {after or 'another system'} now, and the database's indexes of text are sorted as "
        f"{before} does it: it was left as it is. "
        f"Next: set postgres_image: {tagged(image)}-{before} (docs/how-to/patch-hosts.md#another-debian-below-postgres)"
    )


class Images:
    """The images of one host."""

    def __init__(self, engine: Engine, host: str = "", root: Path = Path("/opt")) -> None:
        self.engine, self.root = engine, root
        self.view = View(host, engine, root=root)

    def look(self, digests: Mapping[str, str], *, ask: bool = True, packages: bool = False) -> list[Image]:
        """What runs, stacks first. digests: reference → digest that a registry said already.

        ask: whether registries are asked for the rest.  packages: whether a built image's are compared with apt's.
        """
        found = [*self._stacks(packages=packages), *self._apps()]
        wanted = {tagged(one.base or one.image) for one in found if one.base or one.what in STACKS}
        said = {name: (digests[name], "") for name in wanted if digests.get(name)}
        if ask:
            with ThreadPoolExecutor(max_workers=8) as pool:
                names = sorted(wanted - said.keys())
                said |= dict(zip(names, pool.map(self._ask, names), strict=True))
        return [_with(one, *said.get(tagged(one.base or one.image), ("", ""))) for one in found]

    def fetch(self, images: Iterable[Image], *, timeout: float) -> list[str]:
        """Pull what is newer, by the digest that was said, and give it the tag. Returns the references.

        Raises `RenewalError` for one that a database may not get, before its tag means another image.
        """
        moved = []
        for one in images:
            if not one.newer or one.pinned or not one.due:
                continue
            reference, name = parse(one.image), f"{_repository(one.image)}@{one.newest}"
            self.engine.pull(name, timeout=timeout)
            if self.engine.image(one.image):
                release = [self.engine.file_of_image(image, "/usr/lib/os-release") for image in (one.image, name)]
                if why := refusal(one.what, one.image, *release):
                    raise RenewalError(why)
            self.engine.tag(name, _repository(one.image), (reference.tag if reference else "") or "latest")
            moved.append(one.image)
        return moved

    def _stacks(self, *, packages: bool) -> Iterable[Image]:
        for stack in STACKS:
            for container in self.engine.project(stack):
                labels = container["Config"].get("Labels") or {}
                if labels.get("com.docker.compose.oneoff") == "True":
                    continue
                yield self._stack(stack, str(container["Config"]["Image"]), str(container["Image"]), packages=packages)

    def _stack(self, stack: str, reference: str, running: str, *, packages: bool) -> Image:
        runs = self.engine.image(running) or {}
        built = reference if reference.startswith("flotilla/") else ""
        base = self._base_of(stack) if built else reference
        pulled = (self.engine.image(base) or {}) if built and base else runs
        if built and not base:
            note = "its base is not known before the host is provisioned again"
            return Image(stack, reference, built, running, *self._ages(running, runs), note=note)
        older = not _same_base(runs, pulled) if built else (self.engine.image(reference) or runs).get("Id") != running
        newer = tuple(self._newer_packages(built, base)) if built and packages else ()
        ages = self._ages(running, runs)
        return Image(
            stack, base, built, running, *ages, digests=_digests(pulled), moved=bool(pulled) and older, packages=newer
        )

    def _apps(self) -> Iterable[Image]:
        """What serves of each app; one that cannot be looked at is told by the status itself."""
        for app in self.view.apps():
            try:
                live = self.view.live(app)
            except VIEW_ERRORS:
                continue
            for container in live:
                labels = container["Config"].get("Labels") or {}
                what = f"{app} {labels.get('com.docker.compose.service', '')}"
                running = str(container["Image"])
                inspected = self.engine.image(running) or {}
                named = (inspected.get("Config") or {}).get("Labels") or {}
                digest, base = str(named.get(BASE_DIGEST, "")), str(named.get(BASE_NAME, ""))
                known = (base, (digest,)) if digest and parse(base) else ("", ())
                shown = tagged(str(container["Config"]["Image"]))
                yield Image(what, shown, "", running, *self._ages(running, inspected), base=known[0], digests=known[1])

    def _ages(self, running: str, inspected: Mapping[str, Any]) -> tuple[int | None, int | None]:
        """Days since an image and its lowest layer were made."""
        now = time.time()
        try:
            layers = self.engine.get(f"/images/{quote(running, safe='')}/history")
        except EngineError:
            layers = []
        lowest = float(layers[-1].get("Created") or 0) if layers else 0.0
        return days_since(epoch(str(inspected.get("Created", ""))), now), days_since(lowest, now)

    def _base_of(self, stack: str) -> str:
        try:
            found = _BASE.search((self.root / "flotilla" / stack / ".env").read_text())
        except OSError:
            return ""
        return found[1] if found else ""

    def _ask(self, name: str) -> tuple[str, str]:
        """The digest that a registry has under a name, or why nobody knows."""
        try:
            return self.engine.distribution_digest(name, timeout=ASK_SECONDS), ""
        except EngineError as error:
            return "", f"the registry {registry_of(name)} {_WORDS[classify(error)]} ({error.message})"

    def _newer_packages(self, built: str, base: str) -> list[str]:
        """The packages that a built image has beside its base, and that apt has newer ones of."""
        theirs = set(_run(base, _NAMES).split())
        own = sorted(set(_run(built, _NAMES).split()) - theirs)
        if not own or not theirs:
            return []
        simulate = f"apt-get update > /dev/null && apt-get --simulate --only-upgrade install {' '.join(own)}"
        return sorted(set(_INST.findall(_run(built, simulate, network="host", proxy=_proxy()))) & set(own))


def _with(one: Image, newest: str, note: str) -> Image:
    return Image(**{**asdict(one), "newest": newest, "note": one.note or note})


def _repository(reference: str) -> str:
    """A reference without tag and digest."""
    found = parse(reference)
    return found.name if found else reference


def _digests(inspected: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(sorted(one.partition("@")[2] for one in inspected.get("RepoDigests") or ()))


def _same_base(built: Mapping[str, Any], base: Mapping[str, Any]) -> bool:
    """Whether an image's lowest layers are those of another one."""
    above, below = ((one.get("RootFS") or {}).get("Layers") or [] for one in (built, base))
    return above[: len(below)] == below


def _run(image: str, script: str, *, network: str = "none", proxy: str = "") -> str:
    """What a script prints in an image, as root; nothing where it fails."""
    given = ["--env", f"http_proxy={proxy}"] if proxy else []
    command = ["docker", "run", "--rm", "--user=0:0", f"--network={network}", *given, "--entrypoint=sh", image, "-c"]
    try:
        done = subprocess.run(
            [*command, script], capture_output=True, text=True, errors="replace", timeout=PACKAGES_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _proxy() -> str:
    """The proxy that the host's apt goes through, as build.sh of the role postgres asks for it; or nothing."""
    helper = ["/usr/lib/apt/apt-helper", "auto-detect-proxy", "http://deb.debian.org/"]
    try:
        done = subprocess.run(helper, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.match(r"Using proxy '(http[^']*)'", done.stdout)
    return found[1] if found else ""
