"""New packet rules that undo themselves unless somebody confirms, over a new connection, that they still let him in.

    tried: the undo is armed as a systemd timer, then the rules are loaded. Nothing that a reboot reads has changed.
    kept:  the undo is disarmed; only now the rules become those that a reload and a reboot load.

Whatever happens in between (the operator locked out, the controller killed, the host rebooted), the old rules come
back.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from .journal import alone, write_atomic

TABLE = "inet flotilla"
UNDO_UNIT = "flotilla-firewall-undo"
NFT = "/usr/sbin/nft"
# In a transaction that begins with this it does not matter whether there was a table.
WITHOUT_TABLE = f"table {TABLE}\ndelete table {TABLE}\n"


class TrialError(Exception):
    """The rules were not loaded, or not kept. The message says what to do."""


@dataclass(frozen=True)
class Done:
    """What a command came to."""

    rc: int
    out: str = ""
    err: str = ""

    @property
    def said(self) -> str:
        return (self.err or self.out).strip()


class Run(Protocol):
    """Runs a command and waits for it."""

    def __call__(self, *argv: str) -> Done: ...


@dataclass(frozen=True)
class StockService:
    """Debian's nftables.service, which flushes all rules of everybody when it starts, reloads and stops.

    loads: it is enabled or active.  edited: /etc/nftables.conf is not as it was shipped.
    """

    loads: bool
    edited: bool
    masked: bool


class Trial:
    """The rules of one host, in one directory: `firewall.nft` is loaded at boot, the other files are the trial's."""

    def __init__(self, run: Run, directory: Path) -> None:
        self.run = run
        self.proven = directory / "firewall.nft"
        self.candidate = directory / "candidate.nft"
        self.undo = directory / "undo.nft"
        self.name = directory / "trial"
        # What nft told of the table when it was kept, to notice later that somebody changed or flushed it.
        self.listing = directory / "listing"
        self.candidate_listing = directory / "candidate.listing"

    def loaded(self) -> str | None:
        """The table as nft tells it, without counters; None when there is none, or no nft yet."""
        done = self.run(NFT, "--stateless", "list", "table", *TABLE.split())
        return done.out if done.rc == 0 else None

    def is_current(self, rules: str) -> bool:
        """Whether exactly these rules are loaded, and are those that a reboot loads."""
        return _read(self.proven) == rules and self._is_loaded(self.listing)

    def attempt(self, rules: str, seconds: int) -> str:
        """Load the rules for some seconds; the name of the trial. Raises TrialError; nothing has changed then."""
        with alone(self.proven.parent):
            # Its files are the other trial's, its undo most of all.
            if self.run("systemctl", "is-active", "--quiet", f"{UNDO_UNIT}.timer").rc == 0:
                raise TrialError(
                    "another run has its rules on trial here, so nothing was changed. Next: run this again when that "
                    f"is over; systemctl list-timers {UNDO_UNIT}.timer says when"
                )
            name = secrets.token_hex(8)
            write_atomic(self.name, name, mode=0o600)
            write_atomic(self.candidate, rules, mode=0o600)
            self._check(self.candidate, "the new rules")
            write_atomic(self.undo, WITHOUT_TABLE + (self.loaded() or ""), mode=0o600)
            self._check(self.undo, "the rules in force, as they would be restored,")
            self._arm(seconds)
            loaded = self.run(NFT, "--file", str(self.candidate))
            if loaded.rc != 0:
                self._disarm()
                raise TrialError(f"the kernel did not take the new rules, the old ones are in force: {loaded.said}")
            write_atomic(self.candidate_listing, self.loaded() or "", mode=0o600)
            return name

    def keep(self, name: str) -> None:
        """Make the rules on trial those of the next reboot. Raises TrialError when they have been undone."""
        with alone(self.proven.parent):
            undone = TrialError("the new rules have been undone, the old ones are in force")
            if _read(self.name) != name:
                raise undone
            self._disarm()
            rules = _read(self.candidate)
            if rules is None or not self._is_loaded(self.candidate_listing):
                raise undone
            write_atomic(self.proven, rules, mode=0o600)
            write_atomic(self.listing, _read(self.candidate_listing) or "", mode=0o600)
            for path in (self.name, self.candidate, self.candidate_listing, self.undo):
                path.unlink(missing_ok=True)

    def stock_service(self) -> StockService:
        """What Debian's own nftables.service would do to the rules."""
        shown = self.run("systemctl", "show", "nftables.service", "--property=UnitFileState", "--property=ActiveState")
        state = dict(line.split("=", 1) for line in shown.out.splitlines() if "=" in line)
        # A line such as `??5?????? c /etc/nftables.conf` for a changed file; one that was moved away is `missing`.
        verified = self.run("dpkg", "--verify", "nftables").out.splitlines()
        edited = any(line.endswith(" /etc/nftables.conf") and not line.startswith("missing") for line in verified)
        loads = state.get("ActiveState") == "active" or state.get("UnitFileState") in ("enabled", "enabled-runtime")
        return StockService(loads, edited, masked=state.get("UnitFileState") == "masked")

    def _check(self, path: Path, what: str) -> None:
        checked = self.run(NFT, "--check", "--file", str(path))
        if checked.rc == 0:
            return
        kernel = " (in a container, the machine around it has to load the module nf_tables)"
        hint = kernel if "not supported" in checked.said or "not permitted" in checked.said else ""
        raise TrialError(f"nft does not accept {what}, so nothing was changed{hint}: {checked.said}. Look at {path}")

    def _arm(self, seconds: int) -> None:
        armed = self.run(
            *("systemd-run", f"--unit={UNDO_UNIT}", "--collect", "--quiet"),
            *(f"--on-active={seconds}s", "--timer-property=AccuracySec=100ms"),
            "--description=Restores the packet rules from before a trial",
            *(NFT, "--file", str(self.undo)),
        )
        if armed.rc != 0:
            raise TrialError(f"the undo could not be armed, so no rule was changed: {armed.said}")

    def _disarm(self) -> None:
        # The timer first, so that nothing starts any more; then what it may have started, which is one transaction.
        self.run("systemctl", "stop", f"{UNDO_UNIT}.timer")
        self.run("systemctl", "stop", f"{UNDO_UNIT}.service")

    def _is_loaded(self, listing: Path) -> bool:
        found = self.loaded()
        return found is not None and found == _read(listing)


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except FileNotFoundError:
        return None
