"""No test of a lab depends on how fast this machine is today: what can be seen of that in its text.

docs/decisions/steady-tests.md says why, and what to write instead.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from math import inf
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLACES = ("tests/e2e/**/*.py", "tests/smoke/*.py", "tests/faults/*.py", "tests/soak/*.py", "roles/*/molecule/**/*.py")
# Seconds. For one answer, for a condition, and for a whole test.
ANSWER, CONDITION, TEST = 30, 60, 900
CLOCKS = ("time.monotonic", "time.time")
WAITS = ("eventually", "in_phase", "live_within", "wait_for")
# `file::function: finding` → why it is none.
ALLOWED = {
    "roles/acme/molecule/faults/tests/test_balancers.py::"
    "test_the_first_renews_by_its_timer_and_the_second_takes_its_certificate: a fixed sleep, time.sleep(1)": (
        "visitors go on a little after a reload"
    ),
    "roles/haproxy/molecule/default/app_host.py::Handler.do_GET: a fixed sleep, "
    "time.sleep(float(parse_qs(address.query)['seconds'][0]))": "an answer that is slow on purpose",
    "roles/haproxy/molecule/default/tests/test_operations.py::test_a_host_that_is_not_ready_stays_out: "
    "a fixed sleep, time.sleep(2)": "nothing may come of checks that pass",
    "roles/nginx/molecule/default/tests/test_switch.py::test_switching_under_load_loses_nothing: "
    "a deadline of its own, time.monotonic() + 900": "ends a loop that does more than wait",
    "roles/nginx/molecule/default/tests/test_switch.py::"
    "test_what_fails_is_logged_for_the_colour_that_was_asked.switched_meanwhile: a fixed sleep in a shell, 1.5 s": (
        "within the two seconds that the edge waits; tried again when it was not"
    ),
    "roles/nginx/molecule/waf/tests/test_waf.py::"
    "test_an_upload_comes_to_the_colour_that_is_live_when_it_is_complete: a fixed sleep, time.sleep(1)": (
        "an upload that takes its time"
    ),
    "roles/postgres/molecule/pooler/tests/test_pooler.py::"
    "test_a_server_that_was_away_when_it_was_looked_for_is_found: a fixed sleep, time.sleep(12)": (
        "nobody may end the pooler meanwhile"
    ),
    "roles/restore/molecule/default/tests/test_restore.py::"
    "test_a_repository_that_is_down_is_no_crash_of_the_server: a fixed sleep, time.sleep(15)": (
        "the server may not crash meanwhile"
    ),
    "roles/restore/molecule/default/tests/test_restore.py::test_what_was_acknowledged_outlives_a_kill: "
    "a fixed sleep in a shell, 2 s": "the engine is away for a while",
    "roles/restore/molecule/default/tests/writer.py::main: a deadline of its own, time.time() + seconds": (
        "writes for so long, on the droplet"
    ),
    "tests/e2e/fleet.py::Environment.live_within: a deadline of its own, time.monotonic() + seconds": (
        "waits for many answers in a row"
    ),
    "tests/e2e/test_balancer.py::load_on: a fixed sleep, time.sleep(2)": "load before what it is to notice nothing of",
    "tests/e2e/test_balancer.py::test_a_host_that_is_switched_off_costs_what_was_in_flight_there: "
    "a fixed sleep, time.sleep(3)": "load before what it is to notice",
    "tests/e2e/test_balancer.py::test_a_host_that_is_switched_off_costs_what_was_in_flight_there: "
    "a fixed sleep, time.sleep(25)": "a host is away for longer than connections to it are kept",
    "tests/e2e/test_balancer.py::test_releases_and_rollbacks_cost_nothing: a fixed sleep, time.sleep(2)": (
        "load after what it is to notice nothing of"
    ),
    "tests/e2e/test_losses.py::before_the_next_segment: a fixed sleep, time.sleep(archive_seconds(database) - 2)": (
        "the product's own time, to its worst moment"
    ),
    "tests/e2e/test_losses.py::switched_off_and_on: a fixed sleep, time.sleep(3)": "a droplet is off for a while",
    "tests/e2e/test_losses.py::test_a_backup_and_a_deploy_at_once: a fixed sleep, time.sleep(6)": (
        "the second begins in the middle of the first, which is asserted"
    ),
    "tests/e2e/test_losses.py::test_a_lost_app_host_costs_what_was_in_flight_there: a fixed sleep, time.sleep(5)": (
        "load before and after what it is to notice"
    ),
    "tests/e2e/test_losses.py::test_a_lost_app_host_costs_what_was_in_flight_there: a fixed sleep, time.sleep(10)": (
        "a host is away for a while"
    ),
    "tests/e2e/test_survival.py::test_an_engine_s_restart_costs_no_connection_and_no_answer: "
    "a fixed sleep, time.sleep(BEFORE_SECONDS)": "load before what it is to notice nothing of",
    "tests/e2e/test_survival.py::test_an_engine_s_restart_costs_no_connection_and_no_answer: "
    "a fixed sleep, time.sleep(AFTER_SECONDS)": "load after what it is to notice nothing of",
    "tests/e2e/test_upgrade.py::served_by: a fixed sleep, time.sleep(2)": "people read and write for a while",
    "tests/e2e/test_volumes.py::test_the_keys_of_a_durable_redis_survive_a_kill_and_a_restore: "
    "a fixed sleep in a shell, 3 s": "the product's own time until a key is on the disk",
    "tests/e2e/writing.py::Writer.__exit__: a deadline of its own, time.monotonic() + 2": "what hangs is killed then",
    "tests/faults/test_faults.py::scene: a fixed sleep, time.sleep(2)": "load before and after a fault",
    "tests/faults/test_faults.py::test_a_host_that_is_dead_before_is_refused_or_left_out: "
    "a fixed sleep, time.sleep(15)": "a host is away for a while",
    "tests/faults/test_faults.py::test_the_controller_is_killed_and_the_next_run_ends_it: "
    "a fixed sleep, time.sleep(delay)": "somewhere in a phase, on purpose",
    "tests/faults/test_faults.py::test_the_registry_is_down: an answer within 1 s, registry.stop": (
        "the engine's patience before it kills"
    ),
}


@cache
def findings_of_all() -> frozenset[str]:
    """What is suspicious in the tests of labs and of roles: `file::function: finding`."""
    paths = [path for pattern in PLACES for path in ROOT.glob(pattern)]
    assert len(paths) > 80
    texts = {path.relative_to(ROOT): path.read_text(encoding="utf-8") for path in paths}
    return frozenset(f"{path}::{finding}" for path, text in texts.items() for finding in findings(text))


def findings(text: str) -> list[str]:
    """What is suspicious in one file: `function: finding`."""
    return list(found(ast.parse(text), "module", looped=False))


def found(node: ast.AST, function: str, *, looped: bool) -> Iterator[str]:
    """looped: whether the node is part of a loop of its function, which waits for something or keeps a pace."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        function, looped = node.name if function == "module" else f"{function}.{node.name}", False
    looped = looped or isinstance(node, ast.While | ast.For)
    for what in suspicions(node, looped=looped):
        yield f"{function}: {what}"
    for child in ast.iter_child_nodes(node):
        yield from found(child, function, looped=looped)


def suspicions(node: ast.AST, *, looped: bool) -> Iterator[str]:
    """What is suspicious of one node itself."""
    match node:
        case ast.Constant(value=str(text)):
            for seconds in re.findall(r"(?<!do )\bsleep (\d[\d.]*)", text):
                yield f"a fixed sleep in a shell, {seconds} s"
        case ast.BinOp(left=ast.Call(func=clock), op=ast.Add()) if dotted(clock) in CLOCKS:
            yield f"a deadline of its own, {ast.unparse(node)}"
        case ast.Call():
            yield from suspicions_of_call(node, looped=looped)


def suspicions_of_call(call: ast.Call, *, looped: bool) -> Iterator[str]:
    name = dotted(call.func)
    last = name.rpartition(".")[2]
    given = {word.arg: number(word.value) for word in call.keywords}
    first = number(call.args[0]) if call.args else inf
    if name == "time.sleep" and not looped:
        yield f"a fixed sleep, {ast.unparse(call)}"
    answer = min(given.get("timeout", inf), first if last == "settimeout" else inf)
    condition = min(given.get("seconds", inf), first if last == "live_within" else inf)
    if answer < ANSWER:
        yield f"an answer within {answer:g} s, {name}"
    if last in WAITS and condition < CONDITION:
        yield f"a condition within {condition:g} s, {name}"
    if name.endswith("mark.timeout") and first < TEST:
        yield f"a test within {first:g} s"


def dotted(node: ast.expr) -> str:
    """The name of what is called, as far as it is one: `host.run` of `host.run()`, `.split` of `text().split()`."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=owner, attr=name):
            return f"{dotted(owner)}.{name}"
    return ""


def number(node: ast.expr) -> float:
    """The value of a number; infinite for all else."""
    return float(node.value) if isinstance(node, ast.Constant) and isinstance(node.value, int | float) else inf


@pytest.mark.parametrize(
    ("line", "finding"),
    [
        ("time.sleep(5)", "test: a fixed sleep, time.sleep(5)"),
        ("end = time.monotonic() + 30", "test: a deadline of its own, time.monotonic() + 30"),
        ("subprocess.run([], timeout=10)", "test: an answer within 10 s, subprocess.run"),
        ("connection.settimeout(5)", "test: an answer within 5 s, connection.settimeout"),
        ("front.live_within(30)", "test: a condition within 30 s, front.live_within"),
        ("eventually(met, seconds=20)", "test: a condition within 20 s, eventually"),
        ("pytest.mark.timeout(300)", "test: a test within 300 s"),
        ("host.run('touch x; sleep 2; ls')", "test: a fixed sleep in a shell, 2 s"),
    ],
)
def test_what_depends_on_the_machine_is_found(line: str, finding: str) -> None:
    assert findings(f"def test():\n    {line}") == [finding]


@pytest.mark.parametrize(
    "line",
    [
        "while waiting(): time.sleep(0.5)",
        "eventually(met)",
        "subprocess.run([], timeout=300)",
        "host.run('until up; do sleep 0.5; done')",
    ],
)
def test_what_does_not_is_let_pass(line: str) -> None:
    assert findings(f"def test():\n    {line}") == []


def test_no_test_of_a_lab_depends_on_how_fast_the_machine_is() -> None:
    assert sorted(findings_of_all() - ALLOWED.keys()) == [], "see docs/decisions/steady-tests.md"


def test_what_is_allowed_is_there() -> None:
    assert sorted(ALLOWED.keys() - findings_of_all()) == []
