"""The `.env` files that Compose reads: every value comes back as it went in, and what cannot is refused."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
import tarfile

import pytest
from flotilla import dotenv
from hypothesis import example, given, settings
from hypothesis import strategies as st

KEYS = st.from_regex(dotenv.KEY, fullmatch=True).filter(
    lambda key: not key.upper().startswith(dotenv.RESERVED_PREFIXES)
)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
AWKWARD = st.text(st.sampled_from("$'\"\\#= \t\n\r{}ané`%:"))

ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "a": "\a", "b": "\b", "f": "\f", "v": "\v", '"': '"', "\\": "\\"}


def parse(text: str) -> dict[str, str]:
    """Read quoted lines as compose-go's dotenv/parser.go does: quotes, then escapes, then interpolation."""
    values = {}
    while text := text.lstrip():
        key, _, text = text.partition("=")
        end, raw, quote = 1, [], text[0]
        while text[end] != quote:
            if text[end] == "\\":
                raw.append(quote if text[end + 1] == quote else text[end : end + 2])
                end += 1
            else:
                raw.append(text[end])
            end += 1
        value = "".join(raw)
        if quote == '"':
            value = re.sub(r'\\([abfnrtv$"\\])', lambda found: ESCAPES.get(found[1], "$$"), value)
            assert re.fullmatch(r"(?:[^$]|\$\$)*", value, re.DOTALL), f"{value!r} would be interpolated"
            value = value.replace("$$", "$")
        values[key] = value
        text = text[end + 1 :]
    return values


@given(st.dictionaries(KEYS, TEXTS | AWKWARD))
@example({"A": "pa$word", "B": "it's", "C": 'say "hi"', "D": "a\\", "E": "a # b", "F": "", "G": "\\'", "H": "${A}"})
@example({"A": "line\nline\r\n", "B": "\\n", "C": "'", "D": "\\\\", "E": "$$'", "F": "\\$'"})
def test_every_text_survives(values: dict[str, str]) -> None:
    assert parse(dotenv.dump(values)) == values


@given(st.dictionaries(KEYS, TEXTS | AWKWARD))
def test_one_variable_is_one_line(values: dict[str, str]) -> None:
    assert dotenv.dump(values).count("\n") == len(values)


@pytest.mark.parametrize(("value", "written"), [(1, "A='1'"), (1.5, "A='1.5'"), ("512m", "A='512m'")])
def test_plain_values_stay_readable(value: dotenv.Value, written: str) -> None:
    assert dotenv.line("A", value) == written


@pytest.mark.parametrize("key", ["", "1A", "A B", "A-B", "A\n", "A=", "É"])
def test_names_that_are_no_variables_are_refused(key: str) -> None:
    with pytest.raises(dotenv.DotenvError, match="not a variable name"):
        dotenv.line(key, "x")


@pytest.mark.parametrize("key", ["COMPOSE_FILE", "COMPOSE_PROJECT_NAME", "compose_file", "DOCKER_HOST"])
def test_the_names_of_compose_itself_are_refused(key: str) -> None:
    with pytest.raises(dotenv.DotenvError, match="Docker Compose's own"):
        dotenv.line(key, "x")


@pytest.mark.parametrize("value", [True, None, ["a"], {"a": "b"}])
def test_values_that_are_no_text_are_refused(value: object) -> None:
    with pytest.raises(dotenv.DotenvError, match="write it as text"):
        dotenv.line("A", value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["secret\0secret", "secret\ud800"])
def test_text_that_no_environment_carries_is_refused_without_being_shown(value: str) -> None:
    with pytest.raises(dotenv.DotenvError) as error:
        dotenv.line("PASSWORD", value)
    assert "PASSWORD" in str(error.value)
    assert "secret" not in str(error.value)


@pytest.mark.compose
@settings(max_examples=settings.default.max_examples // 10)
@given(st.lists(TEXTS | AWKWARD, min_size=100, max_size=200))
def test_compose_itself_reads_every_value_back(texts: list[str]) -> None:
    """FLOTILLA_COMPOSE_PREFIX puts a command before it, such as `docker exec -i <droplet>`."""
    names = [f"V{index}" for index in range(len(texts))]
    service = {"image": "a", "environment": {name: f"${{{name}}}" for name in names}}
    files = {
        "compose.yaml": json.dumps({"services": {"a": service}}),
        ".env": dotenv.dump(dict(zip(names, texts, strict=True))),
    }
    script = 'cd "$(mktemp -d)" && tar x && docker compose -p a config --format json && rm -r "$PWD"'
    command = [*shlex.split(os.environ.get("FLOTILLA_COMPOSE_PREFIX", "")), "sh", "-c", script]
    run = subprocess.run(command, input=archive(files), capture_output=True, check=False)
    assert run.returncode == 0, run.stderr.decode()
    read = json.loads(run.stdout)["services"]["a"]["environment"]
    assert [read[name].replace("$$", "$") for name in names] == texts


def archive(files: dict[str, str]) -> bytes:
    """Return files, text by name, as a tar."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            tar.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()
