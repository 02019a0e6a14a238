"""A run as the callback plugin tells it: synthetic events in, the text that a person reads out."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from flotilla.display.lines import Line, State, Style, plain
from flotilla.display.section import Task
from flotilla.display.story import Story

HOSTS = ("app-1", "app-2")
CALM = {"changed": 0, "failures": 0, "unreachable": 0}
REFUSED = "memory does not hold both colours\nNext: resize the host"


@dataclass
class Teller:
    """A story with a clock that the test moves; collects the lines."""

    story: Story = field(default_factory=Story)
    now: float = 100.0
    lines: list[Line] = field(default_factory=list)
    _tasks: int = 0

    def tell(self, lines: Iterable[Line]) -> None:
        self.lines += lines

    def play(self, name: str, *, check: bool = False) -> None:
        self.tell(self.story.play(name, self.now, check=check))

    def begin(self, name: str, action: str = "command", hosts: Iterable[str] = HOSTS, **about: Any) -> str:
        self._tasks += 1
        task = Task(f"task-{self._tasks}", name, action, **about)
        self.tell(self.story.task(task, self.now))
        for host in hosts:
            self.tell(self.story.start(task.key, host, self.now))
        return task.key

    def end(self, key: str, host: str, state: State = State.OK, seconds: float = 1.0, **data: Any) -> None:
        self.now += seconds
        self.tell(self.story.result(key, host, state, data, self.now))

    def run(self, name: str, *states: State, action: str = "command", **about: Any) -> None:
        """A task from its beginning to its end on all hosts, in a second each."""
        key = self.begin(name, action, **about)
        for host, state in zip(HOSTS, states, strict=False):
            self.end(key, host, state)

    def finish(self, totals: Mapping[str, Mapping[str, int]], *, check: bool = False) -> None:
        self.tell(self.story.finish(totals, self.now, check=check))

    @property
    def text(self) -> str:
        return "\n".join(plain(line).rstrip() for line in self.lines)


def golden(text: str) -> str:
    return textwrap.dedent(text).removeprefix("\n").rstrip("\n")


def test_tasks_of_a_role_are_condensed_and_phases_are_not() -> None:
    teller = Teller()
    teller.play("Prepare the hosts")
    teller.run("Validating arguments", State.OK, State.OK, action="validate_argument_spec", role="base")
    teller.run("Install the packages", State.CHANGED, State.OK, role="base")
    teller.run("Make swap", State.SKIPPED, State.OK, role="base")
    teller.run("Start the engine", State.CHANGED, State.CHANGED, role="docker")
    teller.play("Nobody is in this one")
    teller.play("Deploy the apps")
    teller.run("Deploy each app", State.OK, State.OK, action="include_tasks", role="app")
    for name in ("Prepare", "Commit"):
        key = teller.begin(name, "flotilla_release", role="app", group="notes 1.1.0")
        teller.end(key, "app-1", State.CHANGED, 4.5)
        teller.end(key, "app-2", State.CHANGED, 0.5)
    key = teller.begin("Say what serves now", "debug", ["app-1"], role="app", group="notes 1.1.0", run_once=True)
    teller.end(key, "app-1", State.OK, msg="notes 1.1.0: deployed, serves on app-1 (blue), app-2 (blue)")
    teller.finish({"app-2": {**CALM, "changed": 3}, "app-1": {**CALM, "changed": 4}})
    assert teller.text == golden(
        """

        Prepare the hosts
          base                     app-1     changed        3.0 s
          base                     app-2     ok             6.0 s
          docker                   app-1     changed        1.0 s
          docker                   app-2     changed        2.0 s

        Deploy the apps
          notes 1.1.0
          Prepare                  app-1     changed        4.5 s
          Prepare                  app-2     changed        5.0 s
          Commit                   app-1     changed        4.5 s
          Commit                   app-2     changed        5.0 s

        host        changed  failed  unreachable   seconds
        app-1             4       0            0      15.0
        app-2             3       0            0      20.0

        notes 1.1.0: deployed, serves on app-1 (blue), app-2 (blue)
        """
    )


def test_a_failure_is_shown_in_full_and_once() -> None:
    teller = Teller()
    teller.play("Prepare the hosts")
    key = teller.begin("Install the packages", role="base", path="roles/base/tasks/install.yml:3")
    wrong: dict[str, Any] = {
        "msg": "non-zero return code",
        "rc": 100,
        "cmd": ["apt", "install"],
        "stderr": "E: line one\nE: line two",
    }
    teller.end(key, "app-1", State.FAILED, **wrong, stderr_lines=["E: line one"], invocation={"module_args": {}})
    teller.end(key, "app-2", State.FAILED, **wrong)
    teller.tell(teller.story.notice("no host is left to go on with"))
    teller.finish({host: {**CALM, "failures": 1} for host in HOSTS})
    assert teller.text == golden(
        """

        Prepare the hosts
          failed: app-1: base: Install the packages
            roles/base/tasks/install.yml:3
            non-zero return code
            exit code: 100
            command: apt install
            stderr:
              E: line one
              E: line two
          failed: app-2: the same as app-1
          base                     app-1     failed         1.0 s
          base                     app-2     failed         2.0 s
          no host is left to go on with

        host        changed  failed  unreachable   seconds
        app-1             0       1            0       1.0
        app-2             0       1            0       2.0

        failed after 2.0 s on app-1, app-2: base: Install the packages
        """
    )


def test_a_phase_that_refuses_as_a_value_has_failed() -> None:
    teller = Teller()
    teller.play("Deploy the apps")
    key = teller.begin("Admit", "flotilla_release")
    teller.end(key, "app-1", ok=True)
    teller.end(key, "app-2", ok=False, explanation=REFUSED)
    assert "Admit                    app-1     ok             1.0 s\n" in teller.text
    assert teller.text.endswith("app-2     failed         2.0 s  memory does not hold both colours")


@pytest.mark.parametrize(
    ("state", "data", "expected"),
    [
        (State.UNREACHABLE, {"msg": "Connection timed out"}, "unreachable: app-1: Ping\n    Connection timed out"),
        (State.IGNORED, {"msg": "it is\nnot there"}, "ignored: app-1: Ping\n    it is\n    not there"),
        (State.FAILED, {"censored": "hidden"}, "failed: app-1: Ping\n    hidden"),
        (State.FAILED, {}, "failed: app-1: Ping\n    it did not say why; run again with -vvv"),
    ],
)
def test_each_kind_of_failure(state: State, data: Mapping[str, Any], expected: str) -> None:
    teller = Teller()
    teller.play("Look")
    teller.end(teller.begin("Ping"), "app-1", state, **data)
    assert expected in teller.text


def test_ignored_failures_do_not_make_a_host_fail() -> None:
    teller = Teller()
    teller.play("Look")
    teller.end(teller.begin("Ping", role="base"), "app-1", State.IGNORED, msg="no")
    teller.finish({"app-1": CALM})
    assert "base                     app-1     ok " in teller.text
    assert teller.text.endswith("done in 1.0 s: nothing to change")


def test_a_failed_item_is_told_once_and_by_its_label() -> None:
    teller = Teller()
    teller.play("Look")
    key = teller.begin("Pull", hosts=["app-1"])
    for item, state in (("api", State.OK), ("ui", State.FAILED)):
        teller.tell(teller.story.item(key, "app-1", state, {"msg": "no such image"}, item, teller.now))
    teller.end(key, "app-1", State.FAILED, msg="One or more items failed", results=[{}, {}])
    assert "failed: app-1 (ui): Pull\n    no such image" in teller.text
    assert "One or more items" not in teller.text
    assert "api" not in teller.text


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"msg": "one\ntwo"}, "  app-1:\n    one\n    two"),
        ({"msg": ["one", "two"]}, "  app-1:\n    one\n    two"),
        ({"msg": "one"}, "  app-1: one"),
        ({"answer": {"a": [1, "x\ny"]}, "changed": False}, "  app-1:\n    answer:\n      a:\n        - 1\n"),
    ],
)
def test_messages_are_lines(data: Mapping[str, Any], expected: str) -> None:
    teller = Teller()
    teller.play("Talk")
    teller.end(teller.begin("Say", "debug"), "app-1", **data)
    teller.tell(teller.story.tick(teller.now + 1))
    assert expected not in teller.text
    teller.tell(teller.story.tick(teller.now + 4))
    assert expected in teller.text


def test_messages_of_several_hosts_stay_together_at_the_end() -> None:
    teller = Teller()
    teller.play("Talk")
    key = teller.begin("Say", "debug")
    for host in HOSTS:
        teller.end(key, host, msg=f"hello from {host}")
    teller.finish(dict.fromkeys(HOSTS, CALM))
    assert teller.text.endswith("\n\n  app-1: hello from app-1\n  app-2: hello from app-2")


def test_what_is_skipped_does_not_take_the_last_word() -> None:
    teller = Teller()
    teller.play("Talk")
    teller.end(teller.begin("Say", "debug"), "app-1", msg="the end")
    teller.end(teller.begin("Say more", "debug"), "app-1", State.SKIPPED, false_condition="no")
    teller.finish({"app-1": CALM})
    assert teller.text.endswith("\n\n  app-1: the end")
    assert "no" not in teller.text.split()


def test_an_outcome_is_the_last_line_whatever_else_was_said() -> None:
    teller = Teller()
    teller.play("Deploy")
    outcome = {"line": "notes 1.1.0: reverted, 1.0.0 serves on app-1", "outcome": "reverted"}
    teller.end(teller.begin("Abort", "flotilla_release"), "app-1", flotilla_outcome=outcome)
    teller.end(teller.begin("Say", "debug"), "app-1", msg="bye")
    teller.finish({"app-1": {**CALM, "failures": 1}})
    assert plain(teller.lines[-1]) == outcome["line"]
    assert teller.lines[-1][0].style is Style.FAILED


def test_an_outcome_that_another_plugin_tells_is_not_told_twice() -> None:
    teller = Teller()
    teller.play("Deploy")
    teller.end(teller.begin("Prepare", "flotilla_release"), "app-1", State.CHANGED)
    teller.end(teller.begin("Say what came of it", "flotilla_outcome", ["app-1"]), "app-1")
    teller.tell(teller.story.finish({"app-1": {**CALM, "changed": 1}}, teller.now, told_elsewhere=True))
    assert "Say what came of it" not in teller.text
    assert teller.text.endswith("app-1             1       0            0       2.0\n")


def test_a_check_says_what_would_change() -> None:
    teller = Teller()
    teller.play("Prepare the hosts", check=True)
    key = teller.begin("Write the configuration", role="docker")
    teller.tell(teller.story.diff(key, "app-1", State.WOULD_CHANGE, "--- before\n+++ after\n@@ -1 +1 @@\n-a\n+b\n"))
    teller.end(key, "app-1", State.WOULD_CHANGE)
    teller.run("Start the engine", State.WOULD_CHANGE, role="docker")
    teller.finish({"app-1": {**CALM, "changed": 2}}, check=True)
    assert teller.text == golden(
        """

        Prepare the hosts (check: nothing is changed)
          docker: Write the configuration on app-1: would change
            --- before
            +++ after
            @@ -1 +1 @@
            -a
            +b
          docker: Start the engine app-1     would change   1.0 s
          docker                   app-1     would change   2.0 s  2 of 2 tasks

        host   would change  failed  unreachable   seconds
        app-1             2       0            0       2.0

        checked in 2.0 s: 2 changes would be made on app-1
        """
    )
    removed = next(line for line in teller.lines if plain(line).strip() == "-a")
    assert removed[0].style is Style.REMOVED


def test_the_task_in_hand_is_described_for_the_status_line() -> None:
    teller = Teller()
    teller.play("Deploy")
    key = teller.begin("Prepare", "flotilla_release", [f"app-{n}" for n in range(1, 9)], doing="pulling")
    teller.end(key, "app-2", seconds=12)
    teller.story.retry(1, 5)
    assert str(teller.story.running(teller.now)) == (
        "Prepare (pulling): app-1, app-3, app-4 and 4 more for 12 s, 1 done, attempt 2 of 5"
    )


@pytest.mark.parametrize("action", ["pause", "flotilla_validate"])
def test_nothing_is_drawn_over_a_question(action: str) -> None:
    teller = Teller()
    teller.play("Deploy")
    teller.begin("Ask", action)
    assert teller.story.running(teller.now) is None


def test_a_plain_log_says_now_and_then_that_a_long_task_still_runs() -> None:
    teller = Teller()
    teller.play("Deploy")
    teller.begin("Prepare", "flotilla_release", ["app-1"])
    said = []
    for second in range(200):
        if lines := teller.story.still(teller.now + second):
            said.append((second, plain(lines[-1])))
    assert [second for second, _ in said] == [15, 30, 60, 120, 180]
    assert said[0][1] == "  ... Prepare: app-1 for 15 s"


def test_with_v_each_task_is_shown_with_what_it_returned() -> None:
    teller = Teller(Story(verbosity=1, hidden=frozenset({State.SKIPPED})))
    teller.play("Look")
    key = teller.begin("List", role="base")
    teller.end(key, "app-1", stdout="a\nb", stdout_lines=["a", "b"], invocation={"secret": 1}, _ansible_no_log=False)
    teller.end(key, "app-2", State.SKIPPED)
    assert teller.text == golden(
        """

        Look
          - base: List
          List                     app-1     ok             1.0 s
              stdout:
                a
                b
        """
    )


def test_an_adhoc_run_shows_every_answer_and_no_table() -> None:
    teller = Teller(Story(adhoc=True))
    teller.play("Ansible Ad-Hoc")
    teller.end(teller.begin("ping", "ping"), "app-1", ping="pong")
    teller.finish({"app-1": CALM})
    assert teller.text == "  ping                     app-1     ok             1.0 s\n      ping: pong"
