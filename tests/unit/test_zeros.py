"""flotilla.zeros: what Compose drops from an `update_config` because it is zero is not taken for unsaid."""

from __future__ import annotations

import base64
from pathlib import Path

import yaml
from flotilla.bundle import collect, pack
from flotilla.store import unpack
from flotilla.zeros import find, read, restore


def test_a_zero_that_a_file_states_is_restored() -> None:
    files = [
        yaml.safe_load("services: {api: {deploy: {update_config: {monitor: 0s, max_failure_ratio: 0, order: x}}}}")
    ]
    config = {"services": {"api": {"deploy": {"update_config": {"order": "x"}}}, "ui": {}}}
    restored = restore(config, find(files))
    assert restored["services"]["api"]["deploy"]["update_config"] == {
        "order": "x",
        "monitor": "0s",
        "max_failure_ratio": 0,
    }
    assert restored["services"]["ui"] == {}
    assert "monitor" not in config["services"]["api"]["deploy"]["update_config"]


def test_a_value_that_compose_printed_stays() -> None:
    files = [yaml.safe_load("services: {api: {deploy: {update_config: {monitor: '${M:-0s}', delay: 0s}}}}")]
    config = {"services": {"api": {"deploy": {"update_config": {"monitor": "10s"}}}}}
    assert restore(config, find(files))["services"]["api"]["deploy"]["update_config"] == {
        "monitor": "10s",
        "delay": "0s",
    }


def test_compose_drops_a_section_of_zeros_whole() -> None:
    files = [yaml.safe_load("services: {api: {deploy: {rollback_config: {monitor: 0s}}}}")]
    for service in ({}, {"deploy": None}, {"deploy": {"rollback_config": None}}):
        restored = restore({"services": {"api": service}}, find(files))
        assert restored["services"]["api"]["deploy"] == {"rollback_config": {"monitor": "0s"}}


def test_an_extended_service_states_it_too() -> None:
    files = [
        yaml.safe_load("services: {api: {extends: {file: base.yaml, service: base}}, loop: {extends: loop}}"),
        yaml.safe_load("services: {base: {extends: root}, root: {deploy: {update_config: {monitor: 0s}}}}"),
    ]
    assert find(files)["api"] == {"update_config": ["monitor"]}
    assert "loop" not in find(files)


def test_what_a_service_may_do_can_be_said_by_a_zero() -> None:
    files = [
        yaml.safe_load("services: {api: {read_only: false, cap_drop: []}, ui: {read_only: }, job: {extends: api}}")
    ]
    config = {"services": {"api": {}, "ui": {}, "job": {"read_only": True, "cap_drop": ["NET_RAW"]}}}
    restored = restore(config, find(files))["services"]
    assert restored["api"] == {"read_only": False, "cap_drop": []}
    assert restored["ui"] == {}
    assert restored["job"] == {"read_only": True, "cap_drop": ["NET_RAW"]}


def test_files_that_say_nothing_or_nonsense() -> None:
    assert find([None, [], {"services": 3}, {"services": {"a": None, "b": {"deploy": "x"}}}]) == {}


def test_the_bundle_takes_it_to_the_host(tmp_path: Path) -> None:
    directory = tmp_path / "app"
    directory.mkdir()
    (directory / "compose.yaml").write_text("services: {api: {image: a, deploy: {update_config: {monitor: 0s}}}}")
    unpack(base64.b64encode(pack(collect(directory), directory)).decode(), tmp_path / "source")
    assert read(tmp_path / "source") == {"api": {"update_config": ["monitor"]}}
    assert read(directory) == {}
