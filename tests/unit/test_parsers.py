"""Every parser that has no property test elsewhere: any text gives an answer or the parser's own error, and what was
written down is read back."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from flotilla.balancer import (
    BalancerError,
    Row,
    carried_over,
    configured_servers,
    format_states,
    held,
    kept,
    parse_map,
    parse_reload,
    parse_servers,
    parse_states,
    parse_workers,
)
from flotilla.display.lines import diff_lines
from flotilla.pki.names import address, is_dns_name
from flotilla.ranges import holds_port, merged_ports, port_span
from flotilla.sockets import LISTEN, listening, parse
from flotilla.tighten import accounts, edited
from flotilla.yaml_lines import YamlError, read_documents
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.haproxy_answers import STAT_COLUMNS, STATE_HEADER

STATS_HEADER = f"# {','.join(STAT_COLUMNS)},"
WORD = st.text("abcdefghijklmnopqrstuvwxyz0123456789.-", min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("parser", "header", "error"),
    [
        pytest.param(parse_states, STATE_HEADER, BalancerError, id="states"),
        pytest.param(held, STATE_HEADER, BalancerError, id="held"),
        pytest.param(kept, STATE_HEADER, BalancerError, id="kept"),
        pytest.param(lambda text: carried_over(text, text), STATE_HEADER, BalancerError, id="carried-over"),
        pytest.param(parse_servers, STATS_HEADER, BalancerError, id="servers"),
        pytest.param(parse_servers, "# pxname,svname", BalancerError, id="servers-of-another-version"),
        pytest.param(parse_workers, "12 worker 0", BalancerError, id="workers"),
        pytest.param(parse_reload, "Success=1", BalancerError, id="reload"),
        pytest.param(parse_map, "0x55 a b", (), id="map"),
        pytest.param(configured_servers, "backend a\n server b 10.0.0.1:80", (), id="configured"),
        pytest.param(lambda text: list(parse(text)), "  sl  local_address", (), id="sockets"),
        pytest.param(lambda text: accounts(text, text), "root:x:0:0:root:/root:/bin/bash", (), id="accounts"),
        pytest.param(lambda text: edited(text, "a.*", "b"), "", (), id="edited"),
        pytest.param(read_documents, "a: &x [1]", YamlError, id="yaml"),
        pytest.param(diff_lines, "+a", (), id="diff"),
        pytest.param(is_dns_name, "", (), id="dns-name"),
        pytest.param(address, "", (), id="address"),
        pytest.param(port_span, "", ValueError, id="ports"),
    ],
)
@given(text=st.text() | st.lists(st.text("0x ,:;|-/\t#abc"), max_size=4).map("\n".join))
def test_any_text_is_read_or_refused_with_its_own_error(
    parser: Callable[[str], Any], header: str, error: Any, text: str
) -> None:
    for whole in (text, f"{header}\n{text}", f"{header}{text}"):
        try:
            parser(whole)
        except error:
            continue


@given(st.lists(st.tuples(WORD, WORD, st.integers(0, 127)), max_size=5))
def test_states_are_read_back(rows: list[tuple[str, str, int]]) -> None:
    names = STATE_HEADER.splitlines()[1].removeprefix("#").split()
    given_rows = [
        Row(dict.fromkeys(names, "1") | {"be_name": app, "srv_name": host, "srv_admin_state": str(state)})
        for app, host, state in rows
    ]
    assert parse_states(format_states(given_rows, STATE_HEADER)) == given_rows


@given(st.dictionaries(WORD, st.text("abc 123", min_size=1).map(str.strip).filter(bool)))
def test_a_map_is_read_back(values: dict[str, str]) -> None:
    text = "".join(f"0x55d0 {key} {value}\n" for key, value in values.items())
    assert parse_map(text) == values


@given(st.lists(st.tuples(st.integers(1, 65535), st.sampled_from([0x01, LISTEN]))))
def test_sockets_are_read_back(rows: list[tuple[int, int]]) -> None:
    lines = [f"0: 00000000:{port:04X} 00000000:0000 {state:02X} 0:0 0:0 0 0 0 7" for port, state in rows]
    found = list(parse("\n".join(["header", *lines])))
    assert [(one.local_port, one.state, one.inode) for one in found] == [(*row, 7) for row in rows]
    assert listening(found) == sorted({port for port, state in rows if state == LISTEN})


@given(st.lists(st.tuples(st.integers(1, 65535), st.integers(0, 50)), max_size=6), st.integers(1, 65535))
def test_merged_ports_are_the_same_ports(spans: list[tuple[int, int]], port: int) -> None:
    texts = [f"{first}-{min(first + more, 65535)}" for first, more in spans]
    merged = merged_ports(texts)
    assert any(holds_port(text, port) for text in texts) == any(holds_port(text, port) for text in merged)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.text("abc: #-'\"\n", max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORD, inner, max_size=3),
    max_leaves=8,
)


@given(PLAIN)
def test_yaml_is_read_as_it_was_written(data: Any) -> None:
    # Quoted, so that no text is taken for something else.
    assert [one.data for one in read_documents(json.dumps(data))] == [data]
    read_again = read_documents(yaml.safe_dump({"a": data}))
    assert not read_again[0].repeated


@pytest.mark.parametrize("text", ["[" * 3000, "&a [*a]", "&a {<<: *a}", "{a: 1, a: 2}", "? [a]\n: b", "\x00"])
def test_odd_yaml_is_read_or_refused(text: str) -> None:
    try:
        read_documents(text)
    except YamlError as error:
        assert str(error)


@given(st.text("abcdef\n", max_size=20), st.text("abc", min_size=1, max_size=3))
def test_a_line_that_was_edited_stays_so(text: str, line: str) -> None:
    once = edited(text, f"{line}.*", line)
    assert edited(once, f"{line}.*", line) == once
    assert line in once.splitlines()
