"""Logs of usage audits (os-instance_usage_audit_log): which hosts told of their servers' usage for a whole month.

Source: Compute API reference, "Server usage audit log".  Usage here is counted from the records whenever it is asked
for (os-simple-tenant-usage), so no host ever runs an audit, and the logs say so.
"""

import datetime
from typing import Any

from pileus.compute.host import hosts
from pileus.compute.service import ADMIN, COMPUTE
from pileus.core.context import Context
from pileus.core.errors import BadRequest
from pileus.core.op import collection

_RULE = "os_compute_api:os-instance-usage-audit-log"


def _month(before: datetime.datetime) -> tuple[str, str]:
    """The last whole calendar month before a moment."""
    end = before.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    begin = (end - datetime.timedelta(days=1)).replace(day=1)
    return str(begin), str(end)


def _log(ctx: Context, before: datetime.datetime) -> dict[str, Any]:
    names = [host.name for host in hosts(ctx.tx, ctx.now)]
    begin, end = _month(before)
    return {
        "period_beginning": begin, "period_ending": end, "num_hosts": len(names), "num_hosts_done": 0,
        "num_hosts_running": 0, "num_hosts_not_run": len(names), "hosts_not_run": names, "total_instances": 0,
        "total_errors": 0, "overall_status": f"0 of {len(names)} hosts done. 0 errors.", "log": {},
    }  # fmt: skip


@COMPUTE.op("GET", "/os-instance_usage_audit_log", rule=f"{_RULE}:list", allow=ADMIN, load=collection)
def list_audit_logs(ctx: Context) -> dict[str, Any]:
    """List server usage audits of the last month."""
    now = datetime.datetime.fromtimestamp(ctx.now, datetime.UTC).replace(tzinfo=None)
    return {"instance_usage_audit_logs": _log(ctx, now)}


@COMPUTE.op("GET", "/os-instance_usage_audit_log/{before}", rule=f"{_RULE}:show", allow=ADMIN, load=collection)
def show_audit_log(ctx: Context, before: str) -> dict[str, Any]:
    """List server usage audits of the month before a time."""
    try:
        moment = datetime.datetime.strptime(before, "%Y-%m-%d %H:%M:%S")  # noqa: DTZ007 (the API's times have no zone)
        return {"instance_usage_audit_log": _log(ctx, moment)}
    except (ValueError, OverflowError):
        raise BadRequest(f"Invalid timestamp for date {before[:80]}: expected YYYY-MM-DD hh:mm:ss.") from None
