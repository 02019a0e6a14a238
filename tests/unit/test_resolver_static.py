"""What the controller says about a Compose file before a host is touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flotilla.problem import Problem
from flotilla.static import static_problems
from flotilla.yaml_lines import read_documents
from hypothesis import given
from hypothesis import strategies as st

GOOD = """\
x-common: &common
  environment: {LEVEL: "${LEVEL:-info}", PRICE: "5$$", RAW: "$5"}
services:
  web:
    <<: *common
    image: registry.example.com/team/web:${VERSION:?set by Flotilla}
    command: ["sh", "-c", "echo $${HOME}"]
    healthcheck: {test: ["CMD", "true"]}
  tool: {image: tool, profiles: [dev], environment: ["X=${UNSET}"]}
"""


def check(text: str, **changes: Any) -> list[Problem]:
    given = {"file": "compose/app/compose.yaml", "inventory": "inventories/staging/apps.yml", "app": "notes", **changes}
    return static_problems(text, **given)


def test_a_good_file_has_no_problems() -> None:
    assert check(GOOD, routes=[{"path": "/", "service": "web", "port": 80}]) == []


@pytest.mark.parametrize(
    ("text", "where", "variable", "fragment"),
    [
        ("services:\n  a:\n    image: x\n   b: 1\n", ":4", "(syntax)", "is not YAML"),
        ("services: [\n", ":2", "(syntax)", "is not YAML"),
        ("a: \x00", "", "(syntax)", "is not YAML"),
        ("# nothing\n", "", "services", "the file is empty"),
        ("- a\n", "", "services", "not a mapping"),
        ("volumes: {}\n", "", "services", "no services"),
        ("services:\n  a: 1\n", ":2", "services.a", "not a mapping"),
        (
            "service:\n  a: {image: 'x:1'}\nservices:\n  a: {image: 'x:1'}\n",
            ":1",
            "service",
            "did you mean `services`?",
        ),
        (
            "services:\n  a:\n    image: x:1\n    healthchek: {}\n",
            ":4",
            "services.a.healthchek",
            "did you mean `healthcheck`?",
        ),
        ("services:\n  a:\n    image: x:1\n    image: x:2\n", ":3", "services.a.image", "written twice"),
        (
            "services:\n  a:\n    build: .\n",
            ":3",
            "services.a.build",
            "add `image: registry.example.com/team/a:${VERSION}`",
        ),
        ("services:\n  a:\n    restart: always\n", ":2", "services.a.image", "neither an image nor a build"),
        ("services:\n  a:\n    image: x\n", ":3", "services.a.image", "has no tag"),
        ("services:\n  a:\n    image: x:${TAG:-latest}\n", ":3", "services.a.image", "the tag `latest`"),
        (
            "services:\n  a:\n    image: x:1\n    ports:\n      - 8080:80\n",
            ":5",
            "services.a.ports[0]",
            'remove "8080:80"',
        ),
        (
            "services:\n  a:\n    image: x:1\n    ports:\n      - target: 80\n        published: 81\n",
            ":5",
            "services.a.ports[0]",
            'remove "81:80"',
        ),
        ("services:\n  a:\n    image: x:$VERSIN\n", ":3", "services.a.image", "did you mean `VERSION`?"),
        ("services:\n  a:\n    image: x:1\n    user: ${WHO?}\n", ":4", "services.a.user", "apps[notes].environment"),
        ("services:\n  a:\n    image: x:1\n    user: ${9}\n", ":4", "services.a.user", "`{9}` after a dollar"),
        (
            "services:\n  a:\n    image: x:1\n    user: ${FLOTILLA_HOST}\n",
            ":4",
            "services.a.user",
            "in the container only",
        ),
    ],
)
def test_a_problem_names_the_line(text: str, where: str, variable: str, fragment: str) -> None:
    [problem] = check(text)
    assert (problem.where, problem.variable) == (f"compose/app/compose.yaml{where}", variable)
    assert fragment in str(problem)


def test_a_route_needs_a_service_and_a_health_check() -> None:
    text = "services:\n  web:\n    image: x:1\n"
    [problem] = check(text, routes=[{"path": "/", "service": "web", "port": 3000}])
    assert problem.where == "compose/app/compose.yaml:2"
    assert "http://127.0.0.1:3000/health" in problem.next
    [problem] = check(text, routes=[{"path": "/", "service": "weeb", "port": 3000}])
    assert problem.where == "inventories/staging/apps.yml"
    assert "did you mean `web`?" in problem.what
    assert check(text, routes=[{"path": "/", "service": "web", "port": 3000}], unchecked=["web"]) == []


def test_variables_come_from_the_environment_the_secrets_and_the_version() -> None:
    text = "services:\n  a:\n    image: x:${VERSION}\n    command: $LEVEL ${API_KEY} ${OTHER} ${OTHER}\n"
    [problem] = check(text, variables=["LEVEL"], secrets=["api-key"])
    assert "${OTHER}" in problem.what


def test_the_names_that_the_inventory_uses_are_checked() -> None:
    problems = check("services: {a: {image: 'x:1'}}", migration="up", workers=["w"], shared=["s"])
    names = ["apps[notes].migration.service", "apps[notes].workers[0]", "apps[notes].shared[0]"]
    assert [problem.variable for problem in problems] == names


@pytest.mark.parametrize(
    "text",
    [
        "include: [other.yaml]\nservices: {a: {image: 'x:1'}}\n",
        "services: {a: {extends: {file: b.yaml, service: a}}}\n",
        "services: {a: {image: 'x:1', ports: !reset []}}\n",
        "services: {a: {image: 'x:1'}}\n---\nservices: {a: {ports: ['80:80']}}\n",
        "services: {a: {image: &a 'x:1', command: *a, x-ours: 1}}\nx-ours: {deep: [1]}\n",
        "name: notes\nversion: '3'\nservices: {a: {image: 'x:1', environment: {DAY: 2024-99-99}}}\n",
    ],
)
def test_it_is_silent_where_only_compose_can_know(text: str) -> None:
    assert check(text) == []


def test_the_large_example_needs_one_value_more() -> None:
    text = (Path(__file__).parent / "resolver_data" / "notes.yaml").read_text()
    named = {"db": ["volume:customname"]}
    assert [problem.variable for problem in check(text, secrets=["password", "token"], privileges=named)] == [
        "services.api.environment.PASSED"
    ]


@given(st.text(alphabet="ab:-[]{}&*!#|>'\"$\n \t<", max_size=60))
def test_any_text_is_answered_with_problems_and_not_with_a_crash(text: str) -> None:
    for problem in check(text):
        assert problem.next


def test_aliases_that_multiply_are_read_once() -> None:
    levels = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    [document] = read_documents("\n".join(levels))
    assert len(document.data) == 30
