"""A fresh cloud in a folder that is removed afterwards: controller with a node, and a second node that joined."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from pileus.core.config import Config, load_config

PILEUS = Path(sys.executable).parent / "pileus"
NODES = ("node-1", "node-2")
DOOR = "127.0.0.1:6001"  # of the controller, for nodes that join
ADDRESSES = {"node-2": "127.0.0.1:6002"}
# Two pools with the names, and what is said of them, that the configuration asks of volume types.
SAID = '{ storage_protocol = "iSCSI", vendor_name = "Open Source" }'
POOLS = "".join(
    f'[pools.{name}]\nbackend = "{backend}"\ncapabilities = {SAID}\n'
    for name, backend in (("file", "lvmdriver-1"), ("second", "lvmdriver-2"))
)
# What the configuration of the tests says of identity: [identity] user_lockout_*, user_unique_last_password_count.
RULES = "[identity]\nlockout_failures = 2\nlockout_seconds = 10.0\nunique_last = 2\n"
FAKE = 'hypervisor = "fake"\nswitch = "fake"\n'


class Cloud:
    """`fake` drivers (hypervisor and switch; volumes are real files) make two nodes, `real` ones a single node."""

    def __init__(self, drivers: str, into: Path):
        self.drivers, self.into = drivers, into
        # a short name: guests have sockets in it (unix(7), 108 bytes)
        self.folder = Path(tempfile.mkdtemp(prefix="pc-"))
        self.folder.chmod(0o755)
        self.nodes = NODES if drivers == "fake" else NODES[:1]

    @property
    def enter(self) -> list[str]:
        """What stands before a command that shall reach floating addresses."""
        return ["ip", "netns", "exec", self.config().namespace] if self.drivers == "real" else []

    def config(self, node: str = NODES[0]) -> Config:
        """The settings of one node."""
        return load_config(self._file(node))

    def _file(self, node: str) -> Path:
        return self.folder / f"{node}.toml"

    def _settings(self, node: str) -> str:
        lines = [f'name = "{node}"', f'state = "{self.folder}/{node}"', "report_seconds = 5.0"]
        lines.append(f'agent_address = "{ADDRESSES[node]}"' if node in ADDRESSES else f'controller_address = "{DOOR}"')
        return "\n".join(lines) + "\n" + (FAKE if self.drivers == "fake" else "") + POOLS + RULES

    def pileus(self, node: str, *arguments: str) -> str:
        """Run the command for one node; what it printed."""
        done = subprocess.run(
            [str(PILEUS), "--config", str(self._file(node)), *arguments], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"pileus {arguments[0]} on {node}: {done.stdout}{done.stderr}")
        return done.stdout

    def __enter__(self) -> "Cloud":
        for node in self.nodes:
            self._file(node).write_text(self._settings(node))
        print(self.pileus(NODES[0], "up").splitlines()[0], flush=True)
        for node in self.nodes[1:]:
            _, _, url, token = self.pileus(NODES[0], "join-token").split()
            self.pileus(node, "join", url, token)
        return self

    def __exit__(self, *_: object) -> None:
        left = self._verify()
        for node in reversed(self.nodes):
            subprocess.run([str(PILEUS), "--config", str(self._file(node)), "down"], check=False, capture_output=True)
            logs = self.into / f"logs-{node}"
            shutil.rmtree(logs, ignore_errors=True)
            shutil.copytree(self.folder / node / "logs", logs, ignore_dangling_symlinks=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.into / "verify.txt").write_text(left)
        if left:
            print(f"pileus verify:\n{left}", file=sys.stderr)

    def _verify(self) -> str:
        """What `pileus verify` still complains of."""
        command = [str(PILEUS), "--config", str(self._file(NODES[0])), "verify"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
        return done.stdout + done.stderr
