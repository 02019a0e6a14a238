"""Every key of the Compose Specification, and what becomes of it in a release. What is not here is refused.

https://github.com/compose-spec/compose-spec/blob/main/schema/compose-spec.json
`tests/unit/test_compose_keys.py` holds the table against that schema, and docs/reference/compose-keys.md against it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ..problem import did_you_mean
from .findings import Findings


class Fate(StrEnum):
    """What becomes of a key. Of one that needs a privilege, some values pass without: the remark says which."""

    PASSES = "passes"
    CHANGED = "changed"
    LEFT_OUT = "left-out"
    PRIVILEGE = "privilege"
    REFUSED = "refused"


@dataclass(frozen=True)
class Rule:
    """fate, and a remark for a person: what it becomes, which privilege it needs, or why it is refused."""

    fate: Fate
    remark: str = ""


# A key, its fate, and a remark. `*` is any name, `[]` any entry of a list. What lies below a key that is left out or
# refused goes with it; of any other, each key has its own line.
_TABLE = """
version left-out Compose itself ignores it
name left-out the app's name of the inventory is the project's
include changed files of the app's directory, read by Compose
include[].path changed read by Compose
include[].env_file changed read by Compose
include[].project_directory changed read by Compose
models refused Flotilla runs services only
services changed three projects: colour, shared, migration
services.*.annotations privilege `annotations`: they steer the runtime on the host
services.*.attach left-out nobody is attached
services.*.blkio_config passes
services.*.blkio_config.device_read_bps passes
services.*.blkio_config.device_read_bps[].path passes
services.*.blkio_config.device_read_bps[].rate passes
services.*.blkio_config.device_read_iops passes
services.*.blkio_config.device_read_iops[].path passes
services.*.blkio_config.device_read_iops[].rate passes
services.*.blkio_config.device_write_bps passes
services.*.blkio_config.device_write_bps[].path passes
services.*.blkio_config.device_write_bps[].rate passes
services.*.blkio_config.device_write_iops passes
services.*.blkio_config.device_write_iops[].path passes
services.*.blkio_config.device_write_iops[].rate passes
services.*.blkio_config.weight passes
services.*.blkio_config.weight_device passes
services.*.blkio_config.weight_device[].path passes
services.*.blkio_config.weight_device[].weight passes
services.*.build left-out hosts run images and build none
services.*.cap_add privilege the capability, where it reaches past the container
services.*.cap_drop passes `[ALL]` where the file is silent
services.*.cgroup privilege `cgroup`, for `host`
services.*.cgroup_parent privilege `cgroup_parent`
services.*.command passes
services.*.configs changed files of the app's directory are copied into the release
services.*.configs[].source passes
services.*.configs[].target passes
services.*.configs[].uid changed kept for a config with `content`
services.*.configs[].gid changed kept for a config with `content`
services.*.configs[].mode changed kept for a config with `content`
services.*.container_name left-out both colours exist at once
services.*.cpu_count passes
services.*.cpu_percent passes
services.*.cpu_period passes
services.*.cpu_quota passes
services.*.cpu_rt_period privilege `cpu_rt`
services.*.cpu_rt_runtime privilege `cpu_rt`
services.*.cpu_shares passes
services.*.cpus changed `deploy.resources.limits.cpus`
services.*.cpuset passes
services.*.credential_spec left-out only Windows obeys it
services.*.depends_on changed without what is there before the colour starts
services.*.depends_on.*.condition passes
services.*.depends_on.*.required passes
services.*.depends_on.*.restart passes
services.*.deploy changed
services.*.deploy.endpoint_mode left-out only Swarm obeys it
services.*.deploy.labels left-out only Swarm obeys it
services.*.deploy.mode changed `replicated` alone
services.*.deploy.placement left-out only Swarm obeys it
services.*.deploy.replicas passes
services.*.deploy.resources changed
services.*.deploy.resources.limits changed
services.*.deploy.resources.limits.cpus passes
services.*.deploy.resources.limits.memory passes what the host has left, where the file is silent
services.*.deploy.resources.limits.pids privilege `pids_limit`, for no limit; 512 where the file is silent
services.*.deploy.resources.reservations changed
services.*.deploy.resources.reservations.cpus passes
services.*.deploy.resources.reservations.devices privilege `gpus`
services.*.deploy.resources.reservations.devices[].capabilities privilege `gpus`
services.*.deploy.resources.reservations.devices[].count privilege `gpus`
services.*.deploy.resources.reservations.devices[].device_ids privilege `gpus`
services.*.deploy.resources.reservations.devices[].driver privilege `gpus`
services.*.deploy.resources.reservations.devices[].options privilege `gpus`
services.*.deploy.resources.reservations.generic_resources left-out only Swarm obeys it
services.*.deploy.resources.reservations.memory passes
services.*.deploy.restart_policy left-out it silently wins over `restart`
services.*.deploy.rollback_config changed obeyed by Flotilla
services.*.deploy.rollback_config.delay changed obeyed by Flotilla
services.*.deploy.rollback_config.failure_action changed obeyed by Flotilla
services.*.deploy.rollback_config.max_failure_ratio changed obeyed by Flotilla
services.*.deploy.rollback_config.monitor changed obeyed by Flotilla
services.*.deploy.rollback_config.order changed obeyed by Flotilla
services.*.deploy.rollback_config.parallelism changed obeyed by Flotilla
services.*.deploy.update_config changed obeyed by Flotilla
services.*.deploy.update_config.delay changed obeyed by Flotilla
services.*.deploy.update_config.failure_action changed obeyed by Flotilla
services.*.deploy.update_config.max_failure_ratio changed obeyed by Flotilla
services.*.deploy.update_config.monitor changed obeyed by Flotilla
services.*.deploy.update_config.order changed obeyed by Flotilla
services.*.deploy.update_config.parallelism changed obeyed by Flotilla
services.*.develop left-out for a laptop
services.*.device_cgroup_rules privilege `devices`
services.*.devices privilege `devices`
services.*.devices[].permissions privilege `devices`
services.*.devices[].source privilege `devices`
services.*.devices[].target privilege `devices`
services.*.dns passes
services.*.dns_opt passes
services.*.dns_search passes
services.*.domainname passes
services.*.entrypoint passes
services.*.env_file privilege `path:…`, outside the app's directory; read into `environment`
services.*.env_file[].format changed read by Compose
services.*.env_file[].path privilege `path:…`, for a file outside the app's directory
services.*.env_file[].required changed read by Compose
services.*.environment changed with the release, the colour and the host
services.*.expose passes
services.*.extends changed a file of the app's directory, read by Compose
services.*.extends.file changed read by Compose
services.*.extends.service changed read by Compose
services.*.external_links refused containers change with every release
services.*.extra_hosts passes
services.*.gpus privilege `gpus`
services.*.gpus[].capabilities privilege `gpus`
services.*.gpus[].count privilege `gpus`
services.*.gpus[].device_ids privilege `gpus`
services.*.gpus[].driver privilege `gpus`
services.*.gpus[].options privilege `gpus`
services.*.group_add passes
services.*.healthcheck passes
services.*.healthcheck.disable passes
services.*.healthcheck.interval passes
services.*.healthcheck.retries passes
services.*.healthcheck.start_interval passes
services.*.healthcheck.start_period passes
services.*.healthcheck.test passes
services.*.healthcheck.timeout passes
services.*.hostname passes
services.*.image changed its digest, in place of its tag
services.*.init passes
services.*.ipc privilege `ipc`, for `host`
services.*.isolation left-out only Windows obeys it
services.*.label_file privilege `path:…`, outside the app's directory; read into `labels`
services.*.labels changed with Flotilla's own
services.*.links refused services reach each other by their names
services.*.logging changed with a limit where the file is silent
services.*.logging.driver privilege `logging`, for all but `json-file`, `local`, `journald` and `none`
services.*.logging.options privilege `logging`, for more than 1 GiB of `json-file` or `local`
services.*.mac_address passes
services.*.mem_limit changed `deploy.resources.limits.memory`
services.*.mem_reservation changed `deploy.resources.reservations.memory`
services.*.mem_swappiness passes
services.*.memswap_limit passes
services.*.models refused Flotilla runs services only
services.*.network_mode privilege `network_mode`, for `host`; `bridge` becomes the network `default`
services.*.networks changed those of the colour
services.*.networks.*.aliases passes
services.*.networks.*.driver_opts privilege `driver_opts`
services.*.networks.*.gw_priority passes
services.*.networks.*.interface_name passes
services.*.networks.*.ipv4_address refused both colours cannot hold one address
services.*.networks.*.ipv6_address refused both colours cannot hold one address
services.*.networks.*.link_local_ips refused both colours cannot hold one address
services.*.networks.*.mac_address refused both colours cannot hold one address
services.*.networks.*.priority passes
services.*.oom_kill_disable privilege `oom`, for `true`
services.*.oom_score_adj privilege `oom`, below 0
services.*.pid privilege `pid`, for `host`
services.*.pids_limit privilege `pids_limit`, for no limit; else `deploy.resources.limits.pids`
services.*.platform passes
services.*.ports refused two colours cannot hold one port; a route reaches the service
services.*.post_start passes
services.*.post_start[].command passes
services.*.post_start[].environment passes
services.*.post_start[].privileged privilege `privileged`
services.*.post_start[].user passes
services.*.post_start[].working_dir passes
services.*.pre_start refused it runs another image, beside the release
services.*.pre_stop passes
services.*.pre_stop[].command passes
services.*.pre_stop[].environment passes
services.*.pre_stop[].privileged privilege `privileged`
services.*.pre_stop[].user passes
services.*.pre_stop[].working_dir passes
services.*.privileged privilege `privileged`
services.*.profiles changed the service is left out, unless the inventory names it
services.*.provider refused it runs a program of the host as root
services.*.pull_policy left-out Flotilla pulls
services.*.pull_refresh_after left-out Flotilla pulls
services.*.read_only passes `true` where the file is silent
services.*.restart changed `unless-stopped`, or `no` for a one-shot
services.*.runtime privilege `runtime`, for all but `runc`
services.*.scale changed `deploy.replicas`
services.*.secrets changed files that the inventory has the values of
services.*.secrets[].gid left-out Compose ignores it for files
services.*.secrets[].mode left-out Compose ignores it for files
services.*.secrets[].source passes
services.*.secrets[].target passes
services.*.secrets[].uid left-out Compose ignores it for files
services.*.security_opt privilege `unconfined`, for all but `no-new-privileges` and `seccomp:builtin`
services.*.shm_size passes
services.*.stdin_open passes
services.*.stop_grace_period passes
services.*.stop_signal passes
services.*.storage_opt passes
services.*.sysctls privilege `sysctls`, for what is not the container's own
services.*.tmpfs passes
services.*.tty passes
services.*.ulimits passes
services.*.ulimits.*.hard passes
services.*.ulimits.*.soft passes
services.*.use_api_socket privilege `docker_socket`
services.*.user passes
services.*.userns_mode privilege `userns_mode`, for `host`
services.*.uts privilege `uts`, for `host`
services.*.volumes changed files of the app's directory are copied into the release
services.*.volumes[].bind passes
services.*.volumes[].bind.create_host_path changed `false`, but for a path that the inventory names
services.*.volumes[].bind.propagation passes
services.*.volumes[].bind.recursive passes
services.*.volumes[].bind.selinux passes
services.*.volumes[].consistency passes
services.*.volumes[].image passes
services.*.volumes[].image.subpath passes
services.*.volumes[].read_only passes
services.*.volumes[].source privilege `path:…`, `docker_socket` or `volume:…`, for what is not the app's
services.*.volumes[].target passes
services.*.volumes[].tmpfs passes
services.*.volumes[].tmpfs.mode passes
services.*.volumes[].tmpfs.size passes
services.*.volumes[].type passes `bind`, `volume`, `tmpfs` and `image`
services.*.volumes[].volume passes
services.*.volumes[].volume.labels left-out labels are how Flotilla knows its own
services.*.volumes[].volume.nocopy passes
services.*.volumes[].volume.subpath passes
services.*.volumes_from passes of a service in the same project
services.*.working_dir passes
networks changed each exists once for each colour
networks.*.attachable left-out only Swarm obeys it
networks.*.driver refused all but `bridge`: none other can be made for each colour
networks.*.driver_opts privilege `driver_opts`, but for MTU, `enable_icc`, `enable_ip_masquerade`
networks.*.enable_ipv4 left-out it has IPv4
networks.*.enable_ipv6 passes
networks.*.external privilege `network:…`
networks.*.external.name privilege `network:…`
networks.*.internal passes
networks.*.ipam changed
networks.*.ipam.config refused a fixed subnet cannot exist once for each colour
networks.*.ipam.driver left-out the engine's own
networks.*.ipam.options left-out the engine's own
networks.*.labels left-out labels are how Flotilla knows its own
networks.*.name changed `<app>-<colour>-<key>`; of an external one it is kept
volumes changed external, made by Flotilla
volumes.*.driver privilege `driver_opts`, for all but `local`
volumes.*.driver_opts privilege `path:…` for a directory, `driver_opts` for all else but a tmpfs
volumes.*.external privilege `volume:…`, unless its name begins with `<app>_`
volumes.*.external.name privilege `volume:…`, unless it begins with `<app>_`
volumes.*.labels left-out labels are how Flotilla knows its own
volumes.*.name privilege `volume:…`, unless it begins with `<app>_`
secrets changed the inventory has their values
secrets.*.driver left-out the inventory has its value
secrets.*.driver_opts left-out the inventory has its value
secrets.*.environment left-out the inventory has its value
secrets.*.external left-out the inventory has its value
secrets.*.file left-out the inventory has its value
secrets.*.labels left-out only Swarm obeys it
secrets.*.name left-out the key is its name
secrets.*.template_driver left-out only Swarm obeys it
configs changed
configs.*.content passes
configs.*.environment refused it is read when a container starts; write `content: ${NAME}`
configs.*.external refused they are Swarm's
configs.*.file privilege `path:…`, for a file outside the app's directory
configs.*.labels left-out only Swarm obeys it
configs.*.name left-out the key is its name
configs.*.template_driver left-out only Swarm obeys it
"""


def _read(table: str) -> Iterator[tuple[str, Rule]]:
    for line in table.strip().splitlines():
        key, fate, *remark = line.split(None, 2)
        yield key, Rule(Fate(fate), *remark)


KEYS: Mapping[str, Rule] = dict(_read(_TABLE))
_SERVICE = "services.*."
SERVICE_KEYS = frozenset(key.removeprefix(_SERVICE) for key in KEYS if key.startswith(_SERVICE) and key.count(".") == 2)
# Keys of a service that a release has as they were written, once `privileges.refuse` has seen them. The others are
# written anew or left out; of these three, Compose has read the files, and the limit moves.
KEPT = frozenset(key for key in SERVICE_KEYS if KEYS[f"{_SERVICE}{key}"].fate in (Fate.PASSES, Fate.PRIVILEGE)) - {
    "env_file",
    "label_file",
    "pids_limit",
}
TOP_LEVEL = frozenset(key for key in KEYS if "." not in key and "[" not in key)
# Refused where they are looked at, in words of their own.
_TOLD = frozenset(
    {
        "configs.*.environment",
        "configs.*.external",
        "models",
        "networks.*.driver",
        "networks.*.ipam.config",
        "services.*.external_links",
        "services.*.links",
        "services.*.networks.*.ipv4_address",
        "services.*.networks.*.ipv6_address",
        "services.*.networks.*.link_local_ips",
        "services.*.networks.*.mac_address",
        "services.*.ports",
    }
)


def _below(pattern: str) -> frozenset[str]:
    """The names that the table has right below a key."""
    start = f"{pattern}."
    return frozenset(key[len(start) :].split(".")[0].split("[")[0] for key in KEYS if key.startswith(start))


_NAMES = {"": TOP_LEVEL, **{pattern: _below(pattern) for key in KEYS for pattern in (key, f"{key}.*", f"{key}[]")}}


def check(value: Any, pattern: str, path: str, findings: Findings) -> None:
    """Refuse what is refused and what the table does not have, in a part of a file. pattern: of the table."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            check(item, f"{pattern}[]", f"{path}[{index}]", findings)
        return
    names = _NAMES.get(pattern, frozenset())
    if not isinstance(value, Mapping) or not names:
        return
    for key, item in value.items():
        here = f"{path}.{key}" if path else str(key)
        known = f"{pattern}.{key}" if pattern else str(key)
        if names == {"*"}:
            check(item, f"{pattern}.*", here, findings)
        elif str(key).startswith("x-"):
            continue
        elif known not in KEYS:
            what = f"is not a key that is known here{did_you_mean(str(key), names)}"
            findings.refuse(here, what, "correct the key, or start it with `x-` if it is your own")
        elif item is None or item in ({}, []):
            continue
        elif KEYS[known].fate is Fate.REFUSED:
            if known not in _TOLD:
                findings.refuse(here, f"cannot be shipped: {KEYS[known].remark}", "remove it")
        elif KEYS[known].fate is not Fate.LEFT_OUT:
            check(item, known, here, findings)


def markdown() -> str:
    """The table for docs/reference/compose-keys.md."""
    words = {Fate.PRIVILEGE: "needs a privilege", Fate.LEFT_OUT: "is left out"}
    words |= {Fate.CHANGED: "is changed", Fate.REFUSED: "is refused"}
    rows = [f"| `{key}` | {words.get(rule.fate, rule.fate)} | {rule.remark} |" for key, rule in KEYS.items()]
    return "\n".join(["| key | | |", "|---|---|---|", *rows])
