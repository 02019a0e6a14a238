"""Answers in the formats of HAProxy 3.0, made from servers; the names of columns are those of its Management Guide."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

STATE_HEADER = (
    "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight "
    "srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state "
    "bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr "
    "srv_agent_addr srv_agent_port\n"
)
STAT_NAMES = (
    "pxname svname qcur qmax scur smax slim stot bin bout dreq dresp ereq econ eresp wretr wredis status weight act "
    "bck chkfail chkdown lastchg downtime qlimit pid iid sid throttle lbtot tracked type rate rate_lim rate_max "
    "check_status check_code check_duration hrsp_1xx hrsp_2xx hrsp_3xx hrsp_4xx hrsp_5xx hrsp_other hanafail "
    "req_rate req_rate_max req_tot cli_abrt srv_abrt comp_in comp_out comp_byp comp_rsp lastsess "
    "last_chk last_agt qtime ctime rtime ttime"
)
STAT_COLUMNS = STAT_NAMES.split()


def state_line(app: str, host: str, *, admin: int = 0, address: str = "10.2.0.11", port: int = 443, op: int = 2) -> str:
    return f"4 {app} 1 {host} {address} {op} {admin} 1 1 35 15 3 4 6 0 0 0 - {port} - 1 0 - - 0\n"


def states(*lines: str) -> str:
    """The answer to `show servers state`, with the empty line at its end."""
    return STATE_HEADER + "".join(lines) + "\n"


def stat_line(values: Mapping[str, Any]) -> str:
    assert set(values) <= set(STAT_COLUMNS)
    return "".join(f"{values.get(name, '')}," for name in STAT_COLUMNS) + "\n"


def stat(servers: Iterable[Mapping[str, Any]]) -> str:
    """The answer to `show stat`: frontends and backends stand between the servers."""
    lines = [stat_line({"pxname": "_https", "svname": "FRONTEND", "scur": 3, "stot": 77, "status": "OPEN"})]
    for one in servers:
        lines += [stat_line(one), stat_line({"pxname": one["pxname"], "svname": "BACKEND", "scur": 9, "status": "UP"})]
    lines.append(stat_line({"pxname": "_rate_notes", "svname": "BACKEND", "scur": 0, "status": "UP"}))
    return f"# {','.join(STAT_COLUMNS)},\n" + "".join(lines) + "\n"


def processes(current: int, *old: int) -> str:
    """The answer of the master to `show proc`."""
    row = "{pid:<15} {kind:<15} {reloads:<15} 0d00h00m41s     3.0.11-1+deb13u1\n"
    return (
        "#<PID>          <type>          <reloads>       <uptime>        <version>\n"
        + row.format(pid=1, kind="master", reloads="4 [failed: 0]")
        + "# workers\n"
        + row.format(pid=current, kind="worker", reloads=0)
        + ("# old workers\n" if old else "")
        + "".join(row.format(pid=pid, kind="worker", reloads=1 + number) for number, pid in enumerate(old))
        + "# programs\n\n"
    )
