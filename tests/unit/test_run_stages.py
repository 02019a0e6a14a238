"""tests/run: stages of real commands that pass, fail, fail once, hang, and die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.run.__main__ import carry_out
from tests.run.jobs import ROOT, Job, Stage
from tests.run.stages import PYTEST

PASSES = "def test_passes():\n    pass\n"
FAILS = "def test_fails():\n    assert 1 == 2\n"
# Fails until it has been run once: its fresh lab is better.
FAILS_ONCE = """
from pathlib import Path

def test_first():
    pass

def test_flaky():
    ran = Path(__file__ + ".ran")
    before = ran.exists()
    ran.touch()
    print("the second time" if before else "the first time")
    assert before, "the lab was late"

def test_builds_on_it():
    assert Path(__file__ + ".twice").exists() or Path(__file__ + ".ran").read_text() == ""
"""


@dataclass(frozen=True)
class Place:
    """Fake files of end-to-end tests, and what a run of them prints."""

    directory: Path
    capture: pytest.CaptureFixture[str]

    def job(self, name: str, text: str) -> Job:
        path = self.directory / f"test_{name}.py"
        path.write_text(text)
        return pytest_job(name, path)

    def run(self, *stages: Stage, minutes: float = 0) -> tuple[bool, list[str]]:
        """Whether it was good, and its lines."""
        good = carry_out("test", stages, self.directory / "build", minutes)
        return good, self.capture.readouterr().out.splitlines()


def pytest_job(name: str, path: Path) -> Job:
    alone = ("-p", "no:cacheprovider", "--rootdir", str(path.parent), "-c", os.devnull)
    return Job(name, "e2e", (*PYTEST, *alone, str(path)), pytest=True, lab=f"no-lab-{name}", timed=True)


def shell_job(name: str, script: str, lab: str = "") -> Job:
    return Job(name, "molecule", ("sh", "-c", script), lab=lab)


@pytest.fixture
def place(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr("tests.run.labs.remove", lambda names: None)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    return Place(tmp_path, capsys)


def tail(lines: Sequence[str]) -> list[str]:
    """What follows the table."""
    return list(lines[next(n for n, line in enumerate(lines) if line.startswith("on the clock: ")) + 1 :])


def test_what_passes_is_counted_and_good(place: Place) -> None:
    stage = Stage("e2e", [place.job("one", PASSES + PASSES.replace("passes", "too")), place.job("two", PASSES)], 2)
    good, lines = place.run(stage)
    assert good
    assert tail(lines) == ["3 passed, 0 failed"]


def test_nothing_is_not_good(place: Place) -> None:
    good, lines = place.run(Stage("e2e", [place.job("none", "")]))
    assert not good
    assert tail(lines) == ["nothing ran", "0 passed, 0 failed"]


def test_a_failure_that_passes_in_a_fresh_lab_is_flaky(place: Place) -> None:
    good, lines = place.run(Stage("e2e", [place.job("late", FAILS_ONCE), place.job("other", PASSES)]))
    assert good
    assert tail(lines) == ["FLAKY test_late.py::test_flaky", "4 passed, 0 failed"]
    kept = {path.name: path.read_text() for path in (place.directory / "build/flaky").iterdir()}
    assert sorted(kept) == ["test_late.py_test_flaky-1.txt", "test_late.py_test_flaky-2.txt"]
    first, second = (kept[name] for name in sorted(kept))
    assert "the lab was late" in first and "the first time" in first
    assert "the second time" in second and "the lab was late" not in second


def test_a_second_try_comes_after_everything_else(place: Place) -> None:
    late, other = place.job("late", FAILS_ONCE), shell_job("other", "true", "no-lab")
    _, lines = place.run(Stage("e2e", [late]), Stage("molecule", [other]))
    begun = [line for line in lines if line.endswith(": begins")]
    assert begun == ["== late: begins", "== other: begins", "== late again: begins"]


def test_what_fails_twice_is_red(place: Place) -> None:
    good, lines = place.run(Stage("e2e", [place.job("broken", FAILS), place.job("other", PASSES)]))
    assert not good
    assert tail(lines) == ["FAILED test_broken.py::test_fails", "1 passed, 1 failed"]
    assert (place.directory / "build/flaky/test_broken.py_test_fails-2.txt").exists()


@pytest.mark.parametrize(("count", "expected"), [(2, True), (3, False)])
def test_more_than_two_flaky_are_red(place: Place, count: int, expected: bool) -> None:
    jobs = [
        shell_job(f"late{n}", f"mkdir {place.directory}/{n} && exit 1 || exit 0", f"no-lab-{n}") for n in range(count)
    ]
    good, lines = place.run(Stage("molecule", jobs, places=3))
    assert good is expected
    # Those that run beside each other end in any order.
    assert sorted(tail(lines)[:count]) == [f"FLAKY late{n}" for n in range(count)]
    assert ("more than 2 FLAKY are red" in lines) is not expected
    assert lines[-1] == f"{count} passed, 0 failed"


def test_what_has_no_lab_is_tried_once(place: Place) -> None:
    job = shell_job("lint", f"mkdir {place.directory}/once && exit 1 || exit 0")
    good, lines = place.run(Stage("check", [job]), Stage("e2e", [place.job("other", PASSES)]))
    assert not good
    assert tail(lines) == ["FAILED lint", "1 passed, 1 failed"]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("import nothing_of_this_name\n", id="unreadable"),
        pytest.param("import os\ndef test_dies():\n    os._exit(3)\n", id="crashed"),
        pytest.param("import os\ndef test_dies():\n    os.kill(os.getpid(), 9)\n", id="killed"),
    ],
)
def test_a_pytest_that_crashes_is_red_at_once(place: Place, text: str) -> None:
    good, lines = place.run(Stage("e2e", [place.job("crash", text), place.job("other", PASSES)]))
    assert not good
    assert tail(lines) == ["FAILED crash", "1 passed, 1 failed"]
    assert "== crash again: begins" not in lines


def test_no_stage_begins_after_a_needed_one_failed(place: Place) -> None:
    check = Stage("check", [shell_job("lint", "echo it is too long; exit 1")], needed=True)
    good, lines = place.run(check, Stage("e2e", [place.job("other", PASSES)]))
    assert not good
    assert "it is too long" in lines
    assert "not run, since check failed: e2e" in lines
    assert tail(lines) == ["FAILED lint", "0 passed, 1 failed"]


def waits_for(path: Path) -> str:
    """A script that ends when a file is there."""
    return f"timeout 300 sh -c 'until test -e {path}; do sleep 0.05; done'"


def test_a_lab_is_one_commands_at_a_time(place: Place) -> None:
    one, other = place.directory / "one", place.directory / "other"
    scripts = {
        "one": f"{waits_for(other)} && touch {one}",
        "same": f"test -e {one}",
        "other": f"test ! -e {one} && touch {other}",
    }
    labs = {"one": "no-lab", "same": "no-lab", "other": "no-lab-2"}
    jobs = [shell_job(name, scripts[name], lab) for name, lab in labs.items()]
    good, lines = place.run(Stage("molecule", jobs, places=3))
    assert good
    begun = [line for line in lines if line.endswith(": begins")]
    assert begun == ["== one: begins", "== other: begins", "== same: begins"]
    assert lines[-1] == "3 passed, 0 failed"


def test_a_command_takes_its_share_of_the_places(place: Place) -> None:
    """Two tests under load, or one with a scenario beside it; a second try has all places to itself."""
    first, second = place.directory / "first", place.directory / "second"
    load = [replace(shell_job("one", "true"), share=3), replace(shell_job("two", waits_for(first)), share=3)]
    light = [
        replace(shell_job("first", f"touch {first}; {waits_for(second)}"), share=2),
        replace(shell_job("second", f"touch {second}"), share=2),
    ]
    again = replace(place.job("late", FAILS_ONCE), share=3)
    good, lines = place.run(Stage("labs", [*load, *light, again], places=6))
    assert good
    told = [line for line in lines if line.endswith(": begins") or line.startswith("== PASS")]
    names = [line.split()[2 if "PASS" in line else 1].rstrip(":") for line in told]
    assert names[:5] == ["one", "two", "one", "first", "two"]
    assert "FLAKY test_late.py::test_flaky" in lines


def test_outputs_are_shown_whole(place: Place) -> None:
    script = "for n in 1 2 3; do echo {0}; sleep 0.1; done"
    jobs = [shell_job(name, script.format(name)) for name in ("a", "b")]
    _, lines = place.run(Stage("molecule", jobs, places=2))
    said = [line for line in lines if line in ("a", "b")]
    assert said in (["a"] * 3 + ["b"] * 3, ["b"] * 3 + ["a"] * 3)


def test_a_scenario_counts_as_its_tests(place: Place) -> None:
    job = shell_job("redis", "echo '===== 12 passed, 1 warning in 3.45s ====='", "no-lab")
    good, lines = place.run(Stage("molecule", [job]))
    assert good
    assert lines[-1] == "12 passed, 0 failed"


HANGS = """
import subprocess, sys, time

def test_first():
    pass

def test_hangs():
    apart = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    open(__file__ + ".pid", "w").write(str(apart.pid))
    time.sleep(600)

def test_later():
    pass
"""


def test_at_its_time_a_run_stops_and_says_what_ran(place: Place) -> None:
    quick, hanging = (shell_job(name, f"sleep {n}", "no-lab") for name, n in (("quick", 0), ("hangs", 600)))
    waiting = Stage("e2e", [place.job("later", PASSES)])
    good, lines = place.run(Stage("molecule", [quick, hanging]), waiting, minutes=2 / 60)
    assert not good
    story = lines[lines.index("STOPPED: the time that this run gives itself is over") :]
    assert story[1:3] == ["  have run: molecule 1", "  were running: 1"]
    assert story[3].startswith("    hangs (")
    assert story[4:7] == ["  were waiting: 1", "    later", "  took longest:"]
    assert story[7].endswith(" s  quick")
    assert tail(lines) == ["FAILED hangs", "1 passed, 1 failed"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_the_same_way(place: Place, number: int) -> None:
    path = place.directory / "test_hangs.py"
    path.write_text(HANGS)
    program = textwrap.dedent(f"""
        import sys
        from pathlib import Path
        from tests.run.__main__ import carry_out
        from tests.run.jobs import Stage
        from tests.unit.test_run_stages import pytest_job
        stage = Stage("e2e", [pytest_job("hangs", Path({str(path)!r}))])
        sys.exit(not carry_out("test", [stage], Path({str(place.directory)!r}) / "build"))
    """)
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True) as run:
        pid = place.directory / "test_hangs.py.pid"
        until = time.monotonic() + 60
        while not (pid.exists() and pid.read_text()) and time.monotonic() < until:
            time.sleep(0.1)
        run.send_signal(number)
        output, _ = run.communicate(timeout=60)
    lines = output.splitlines()
    assert run.returncode == 1
    story = lines[lines.index(f"STOPPED: it was told to end ({signal.Signals(number).name})") :]
    assert story[1:3] == ["  have run: e2e 1", "  were running: 1"]
    assert story[3].startswith("    test_hangs.py::test_hangs (")
    assert story[4:7] == ["  were waiting: 1", "    test_hangs.py::test_later", "  took longest:"]
    assert tail(lines) == ["FAILED hangs", "1 passed, 1 failed"]
    # It had left the group of the command that was stopped.
    assert not alive(int(pid.read_text()))


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
