"""A room of our own: network, /run and process ids that no other program of the machine shares.

So the API may answer at the address that the configuration names, whatever else runs on the machine, and
nothing outlives the run.
"""

import os
import sys

INSIDE = "CONFORMANCE_ROOM"
# sh is the first process: it collects what other processes leave behind.
DOOR = 'mount -t tmpfs -o mode=755 run /run && ip link set lo up && "$@"; exit $?'


def enter() -> None:
    """Start this command again inside, unless it is there already; needs root."""
    if os.environ.get(INSIDE):
        return
    if os.geteuid() != 0:
        sys.exit("conformance: run it as root (it makes network namespaces)")
    command = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]
    again = [sys.executable, "-m", "conformance", *sys.argv[1:]]
    os.environ[INSIDE] = "1"
    os.execvp(command[0], [*command, "sh", "-c", DOOR, "sh", *again])
