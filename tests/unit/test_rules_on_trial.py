"""plugins/module_utils/flotilla/rules_on_trial.py: rules that undo themselves, on a host that is played."""

from __future__ import annotations

from pathlib import Path

import pytest
from flotilla.rules_on_trial import NFT, UNDO_UNIT, WITHOUT_TABLE, Done, StockService, Trial, TrialError

OLD = "table inet flotilla { old }"
NEW = WITHOUT_TABLE + "table inet flotilla { new }"


class Host:
    """A kernel with at most one table, and a timer; `refuse` is a word of the command that fails."""

    def __init__(self, table: str | None = None) -> None:
        self.table = table
        self.armed: Path | None = None
        self.refuse = ""
        self.commands: list[tuple[str, ...]] = []
        self.answers: dict[str, str] = {}

    def __call__(self, *argv: str) -> Done:
        self.commands.append(argv)
        if self.refuse and self.refuse in argv:
            return Done(1, err=f"{self.refuse} was refused")
        if argv[0] == "systemd-run":
            if self.armed:
                return Done(1, err=f"Unit {UNDO_UNIT}.timer was already loaded")
            self.armed = Path(argv[-1])
        elif argv[:2] == ("systemctl", "is-active"):
            return Done(0 if self.armed else 3)
        elif argv[:2] == ("systemctl", "stop"):
            self.armed = None
        elif argv[0] == NFT and "list" in argv:
            return Done(0, out=self.table) if self.table else Done(1, err="No such file or directory")
        elif argv[0] == NFT and "--check" not in argv:
            self.load(Path(argv[-1]))
        return Done(0, out=self.answers.get(argv[0], ""))

    def load(self, file: Path) -> None:
        self.table = file.read_text().removeprefix(WITHOUT_TABLE) or None

    def time_is_over(self) -> None:
        if self.armed:
            self.load(self.armed)
            self.armed = None


@pytest.fixture
def host() -> Host:
    return Host(OLD)


@pytest.fixture
def trial(host: Host, tmp_path: Path) -> Trial:
    return Trial(host, tmp_path)


def test_kept_rules_are_those_of_the_next_boot(host: Host, trial: Trial) -> None:
    name = trial.attempt(NEW, 30)
    assert not trial.proven.exists()
    trial.keep(name)
    assert trial.proven.read_text() == NEW
    assert trial.is_current(NEW)
    host.time_is_over()
    assert host.table == "table inet flotilla { new }"


def test_rules_that_nobody_kept_are_undone(host: Host, trial: Trial) -> None:
    trial.attempt(NEW, 30)
    assert host.table == "table inet flotilla { new }"
    host.time_is_over()
    assert host.table == OLD
    assert not trial.is_current(NEW)
    assert not trial.proven.exists()


def test_where_there_was_no_table_the_undo_leaves_none(tmp_path: Path) -> None:
    host = Host()
    Trial(host, tmp_path).attempt(NEW, 30)
    host.time_is_over()
    assert host.table is None


def test_who_comes_too_late_keeps_nothing(host: Host, trial: Trial) -> None:
    name = trial.attempt(NEW, 30)
    host.time_is_over()
    with pytest.raises(TrialError, match="have been undone"):
        trial.keep(name)
    assert not trial.proven.exists()


def test_the_undo_is_armed_before_the_rules_are_loaded(host: Host, trial: Trial) -> None:
    trial.attempt(NEW, 30)
    armed = next(number for number, argv in enumerate(host.commands) if argv[0] == "systemd-run")
    loaded = host.commands.index((NFT, "--file", str(trial.candidate)))
    assert armed < loaded
    assert "--on-active=30s" in host.commands[armed]
    # A timer is a minute late unless it is told otherwise.
    assert "--timer-property=AccuracySec=100ms" in host.commands[armed]


@pytest.mark.parametrize(
    ("refuse", "told"),
    [("--check", "nft does not accept the new rules"), ("systemd-run", "the undo could not be armed")],
)
def test_without_a_check_or_an_undo_nothing_is_loaded(host: Host, trial: Trial, refuse: str, told: str) -> None:
    host.refuse = refuse
    with pytest.raises(TrialError, match=told):
        trial.attempt(NEW, 30)
    assert (host.table, host.armed) == (OLD, None)


def test_a_second_trial_waits_for_the_first(host: Host, trial: Trial) -> None:
    trial.attempt(NEW, 30)
    with pytest.raises(TrialError, match="another run has its rules on trial"):
        trial.attempt(NEW + " # other", 30)
    host.time_is_over()
    assert host.table == OLD


def test_who_comes_too_late_does_not_keep_the_rules_of_the_next_trial(host: Host, trial: Trial) -> None:
    name = trial.attempt(NEW, 30)
    host.time_is_over()
    trial.attempt(NEW + " # other", 30)
    with pytest.raises(TrialError, match="have been undone"):
        trial.keep(name)
    host.time_is_over()
    assert host.table == OLD


def test_rules_that_the_kernel_refuses_leave_no_undo_behind(host: Host, trial: Trial) -> None:
    host.refuse = str(trial.candidate)
    with pytest.raises(TrialError):
        trial.attempt(NEW, 30)
    assert (host.table, host.armed) == (OLD, None)


@pytest.mark.parametrize("table", [None, "table inet flotilla { new; somebody's }"], ids=["flushed", "changed"])
def test_rules_that_somebody_flushed_or_changed_are_loaded_again(host: Host, trial: Trial, table: str | None) -> None:
    trial.keep(trial.attempt(NEW, 30))
    host.table = table
    assert not trial.is_current(NEW)


@pytest.mark.parametrize(
    ("shown", "verified", "expected"),
    [
        ("UnitFileState=disabled\nActiveState=inactive", "", StockService(False, False, False)),
        ("UnitFileState=enabled\nActiveState=inactive", "", StockService(True, False, False)),
        ("UnitFileState=disabled\nActiveState=active", "??5??????   /etc/other\n", StockService(True, False, False)),
        (
            "UnitFileState=enabled\nActiveState=active",
            "??5?????? c /etc/nftables.conf\n",
            StockService(True, True, False),
        ),
        (
            "UnitFileState=enabled\nActiveState=active",
            "missing   c /etc/nftables.conf\n",
            StockService(True, False, False),
        ),
        ("UnitFileState=masked\nActiveState=inactive", "", StockService(False, False, True)),
        ("UnitFileState=\nActiveState=inactive", "", StockService(False, False, False)),
    ],
)
def test_the_distributions_own_service(
    host: Host, trial: Trial, shown: str, verified: str, expected: StockService
) -> None:
    host.answers = {"systemctl": shown, "dpkg": verified}
    assert trial.stock_service() == expected
