"""tests/run: what a change of some paths affects, in a small project and in this one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.run.__main__ import main
from tests.run.affected import E2E, Affected, affected
from tests.run.imports import graph
from tests.run.jobs import ROOT

FILES = {
    "plugins/module_utils/flotilla/__init__.py": "",
    "plugins/module_utils/flotilla/shapes.py": "",
    "plugins/module_utils/flotilla/draw/__init__.py": "from . import lines",
    "plugins/module_utils/flotilla/draw/lines.py": "",
    "plugins/modules/flotilla_paint.py": "from ansible.module_utils.flotilla.draw import lines",
    "plugins/filter/flotilla_round.py": "class F:\n    def filters(self):\n        return {'flotilla_rounded': round}",
    "compose/app/src/notes/store.py": "",
    "compose/redis/compose.yaml": "",
    "roles/base/tasks/main.yml": "- apt: {}",
    "roles/base/molecule/default/molecule.yml": "---",
    "roles/redis/tasks/main.yml": "- template: {src: '{{ role_path }}/../../compose/redis/compose.yaml'}",
    "roles/redis/molecule/default/molecule.yml": "molecule_prepare: [docker, base]",
    "roles/walls/tasks/main.yml": "- flotilla_paint: {size: '{{ 1.5 | flotilla_rounded }}'}",
    "roles/walls/molecule/default/molecule.yml": "---",
    "roles/walls/molecule/default/converge.yml": "- include_role: {name: redis}",
    "roles/walls/molecule/default/tests/test_default.py": "from tests.lab.scenario import converge",
    "playbooks/provision.yml": "- role: base\n- role: redis\n",
    "playbooks/paint.yml": "- flotilla_paint:",
    "tests/lab/scenario.py": "",
    "tests/unit/conftest.py": "",
    "tests/unit/helper.py": "TEMPLATES = 'roles/walls/templates'",
    "tests/unit/test_shapes.py": "from flotilla.shapes import square",
    "tests/unit/test_lines.py": "from flotilla import draw",
    "tests/unit/test_walls.py": "from tests.unit import helper",
    "tests/unit/test_paint.py": "PLAYBOOK = 'playbooks/paint.yml'",
    "tests/unit/test_store.py": "import notes.store",
    "tests/unit/test_round.py": "MODULE = 'plugins/filter/flotilla_round.py'",
    "tests/unit/test_nothing.py": "import flotilla_painting",
    "tests/e2e/watching.py": "",
    "tests/e2e/test_first_deploy.py": "",
    "tests/e2e/test_verbs.py": "run('paint.yml')",
    "tests/e2e/test_losses.py": "from tests.e2e import watching",
    "tests/e2e/test_long.py": "run('paint.yml')\nfrom tests.e2e import watching\npytestmark = pytest.mark.thorough\n",
    "docs/README.md": "",
    "ansible.cfg": "",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def units(found: Affected) -> set[str]:
    return {path.stem.removeprefix("test_") for path in found.units}


@pytest.mark.parametrize(
    ("path", "unit", "role", "e2e"),
    [
        ("docs/README.md", set(), set(), set()),
        ("plugins/module_utils/flotilla/shapes.py", {"shapes"}, set(), set()),
        # From the module to its package, the plugin, the role and the playbook that have it, and who names these.
        ("plugins/module_utils/flotilla/draw/lines.py", {"lines", "paint", "walls"}, {"walls"}, {"test_verbs"}),
        ("plugins/filter/flotilla_round.py", {"round", "walls"}, {"walls"}, set()),
        ("roles/walls", {"walls"}, {"walls"}, set()),
        ("roles/base/tasks/main.yml", set(), {"base", "redis"}, {"test_first_deploy"}),
        ("compose/redis", set(), {"redis", "walls"}, {"test_first_deploy"}),
        ("compose/app/src", {"store"}, set(), {"test_first_deploy"}),
        ("playbooks/paint.yml", {"paint"}, set(), {"test_verbs"}),
        ("tests/unit/helper.py", {"walls"}, set(), set()),
        ("tests/unit/test_nothing.py", {"nothing"}, set(), set()),
        ("tests/e2e/watching.py", set(), set(), {"test_losses"}),
        ("tests/e2e/test_verbs.py", set(), set(), {"test_verbs"}),
        ("tests/lab/scenario.py", {"walls"}, {"base", "redis", "walls"}, {"test_first_deploy"}),
    ],
)
def test_what_a_path_affects(project: Path, path: str, unit: set[str], role: set[str], e2e: set[str]) -> None:
    found = affected([path], project)
    assert (units(found), set(found.roles), set(found.e2e)) == (unit, role, e2e)


def test_a_changed_conftest_is_every_tests_beside_it(project: Path) -> None:
    names = {name for name in FILES if name.startswith("tests/unit/test_")}
    assert {f"tests/unit/{path.name}" for path in affected(["tests/unit/conftest.py"], project).units} == names


def test_what_everything_stands_upon_is_all_unit_tests(project: Path) -> None:
    assert affected(["ansible.cfg"], project).all_units
    assert not affected(["docs/README.md"], project).all_units


def test_it_says_why_in_a_handful_of_lines(project: Path) -> None:
    assert affected(["roles/base", "tests/e2e/watching.py"], project).lines() == [
        "lint and types: everything",
        "units: 0 files, which import or name what changed",
        "molecule: base (changed), redis (its scenario has base)",
        "e2e: test_first_deploy (playbooks/provision.yml runs base), test_losses (changed, or imports it)",
        "The full run, `make test`, comes before a merge.",
    ]


def test_a_path_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", "--paths", "roles/redis roles/rdeis"]) == 2
    assert capsys.readouterr().err == "PATHS: roles/rdeis does not exist\n"


def test_the_rules_are_about_what_there_is() -> None:
    assert [place for place in E2E if not (ROOT / place).exists()] == []
    stems = {stem for stems in E2E.values() for stem in stems}
    assert [stem for stem in stems if not (ROOT / f"tests/e2e/{stem}.py").exists()] == []


def test_the_imports_of_this_project_are_found() -> None:
    imports = graph(ROOT)
    utils = ROOT / "plugins/module_utils/flotilla"
    assert utils / "settings.py" in imports[ROOT / "plugins/modules/flotilla_release.py"]
    assert utils / "inputs.py" in imports[ROOT / "plugins/action/flotilla_validate.py"]
    assert ROOT / "tests/run/affected.py" in imports[Path(__file__)]
    assert ROOT / "tests/unit/conftest.py" in imports[Path(__file__)]
