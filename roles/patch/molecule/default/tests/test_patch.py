"""What is left of a host that had something to patch."""

from __future__ import annotations

from testinfra.host import Host


def test_the_old_package_is_a_new_one(host: Host) -> None:
    assert host.package("hello").version > "1"


def test_nothing_else_is_due(host: Host) -> None:
    simulated = host.check_output("apt-get --simulate upgrade")
    assert "0 upgraded" in simulated


def test_what_ran_before_runs(host: Host) -> None:
    assert host.check_output("docker inspect --format '{{.State.Running}}' kept") == "true"


def test_the_next_run_does_not_think_that_one_was_cut_short(host: Host) -> None:
    assert not host.file("/var/lib/flotilla-patch-begun").exists


def test_the_edge_runs_what_the_registry_has(host: Host) -> None:
    running = host.check_output("docker inspect --format '{{.Image}}' nginx-nginx-1")
    assert running == host.check_output("cat /root/newest")
    assert host.check_output("docker image inspect --format '{{.Id}}' nginx:1.30") == running


def test_nothing_is_left_of_the_second_edge(host: Host) -> None:
    assert host.check_output("docker ps --all --quiet --filter name=nginx-next") == ""
    assert host.run("nft list table ip flotilla_edge_renewal").rc != 0
    assert host.check_output("docker images --quiet --filter label=older=build") == ""
