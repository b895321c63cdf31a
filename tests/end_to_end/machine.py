"""A whole Pileus as a person runs it: the command, a state folder, a network namespace and a port of its own."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import openstack
from lone_guest import IMAGES, SSH, free_port
from openstack.connection import Connection

BIN = Path(sys.executable).parent
BOOT_SECONDS = 150


def eventually(what: Callable[[], Any], seconds: float = 30, pause: float = 0.3) -> Any:
    """The first true answer within so many seconds, else the last one."""
    ends = time.monotonic() + seconds
    while not (found := what()) and time.monotonic() < ends:
        time.sleep(pause)
    return found


class Machine:
    """A machine with Pileus on it; `within` is a network namespace that plays the machine ("" is this one)."""

    def __init__(self, name: str, within: str = "", /, **settings: Any):
        self.name, self.within, self.port = name, within, settings.pop("port", 0) or free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir="/tmp"))  # short: sockets' paths are bounded
        self.folder.chmod(0o755)  # the unprivileged API reaches its files below
        self.state, self.namespace = self.folder / "s", name
        lines = {"state": str(self.state), "port": self.port, "namespace": name, **settings}
        text = "".join(f"{key} = {_toml(value)}\n" for key, value in lines.items())
        self.config = self.folder / "pileus.toml"
        self.config.write_text(text)

    def pileus(self, *words: str, check: bool = True, seconds: float = 400) -> str:
        """A command of ours; what it printed."""
        return self.run([str(BIN / "pileus"), *words], check=check, seconds=seconds)

    def run(self, words: Sequence[str], check: bool = True, seconds: float = 120) -> str:
        """A program on this machine."""
        enter = ["nsenter", f"--net=/run/netns/{self.within}"] if self.within else []
        try:
            done = subprocess.run(
                [*enter, *words], env=self.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                timeout=seconds, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as late:
            said = (late.stdout or b"").decode(errors="replace")
            raise AssertionError(f"{' '.join(words)}: not done after {seconds} s\n{said}\n{self.log()}") from None
        if check and done.returncode:
            raise AssertionError(
                f"{' '.join(words)}: status {done.returncode}\n{done.stdout}{done.stderr}\n{self.log()}"
            )
        return done.stdout + ("" if check else done.stderr)

    def environment(self, cloud: str = "pileus") -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("OS_", "PILEUS_"))}
        files = {"PILEUS_CONFIG": str(self.config), "OS_CLIENT_CONFIG_FILE": str(self.state / "clouds.yaml")}
        return {**kept, **files, "OS_CLOUD": cloud, "PATH": f"{BIN}:{os.environ['PATH']}"}

    def openstack(self, *words: str, cloud: str = "pileus") -> Any:
        """A command of the real client; its answer."""
        argv = [str(BIN / "openstack"), "--os-cloud", cloud, *words, "-f", "json"]
        text = self.run(argv, seconds=200)
        return json.loads(text) if text.strip() else None

    def tell(self, *words: str, cloud: str = "pileus") -> str:
        """A command of the real client that answers in words, or nothing."""
        return self.run([str(BIN / "openstack"), "--os-cloud", cloud, *words], seconds=200)

    def sdk(self, cloud: str = "pileus") -> Connection:
        """The real SDK, logged in."""
        os.environ["OS_CLIENT_CONFIG_FILE"] = str(self.state / "clouds.yaml")
        return openstack.connect(cloud=cloud)

    def beside(self, words: Sequence[str], check: bool = True, seconds: float = 60) -> str:
        """A program beside the public network, where floating addresses are reached."""
        return self.run(["ip", "netns", "exec", self.namespace, *words], check=check, seconds=seconds)

    def ssh(self, address: str, command: str, check: bool = True) -> str:
        """A command in a guest, with the demo's key."""
        login = [*SSH, "-i", str(self.state / "first_key"), f"cirros@{address}"]
        return self.beside([*login, f"set -eu -o pipefail; PATH=$PATH:/sbin:/usr/sbin; {command}"], check=check)

    def wait_for_ssh(self, address: str) -> None:
        if not eventually(lambda: "yes" in self.ssh(address, "echo yes", check=False), BOOT_SECONDS):
            raise AssertionError(
                f"{address} does not answer: {self.ssh(address, 'echo yes', check=False)}\n{self.log()}"
            )

    def log(self) -> str:
        """What went wrong, for the message of a failed test."""
        path = self.state / "logs" / "pileus.log"
        lines = path.read_text().splitlines() if path.exists() else []
        said = "\n".join(line[:3000] for line in lines if '"level": "info"' not in line)[-4000:]
        consoles = (self.state / "node" / "hypervisor" / "guests").glob("*/console")
        return said + "".join(f"\n--- {c.parent.name}\n{c.read_text(errors='replace')[-1500:]}" for c in consoles)

    def traces(self) -> list[str]:
        """Everything on the real machine that bears our name: processes, namespaces, mounts, files in /run."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    settings = (entry / "environ").read_bytes().decode(errors="replace")
                except OSError:
                    continue
                if str(self.folder) in words + settings or f" {self.name}" in words:
                    found.append(f"process {entry.name}: {words[:150]}")
        found += [f"namespace {p.name}" for p in Path("/run/netns").glob(f"{self.name}*")]
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        found += [f"mount {line}" for line in mounts if str(self.folder) in line or f"/netns/{self.name}" in line]
        found += [f"file {path}" for path in Path("/run/pileus-switch").glob(f"{self.name}*")]
        return found

    def close(self) -> None:
        """Take it all away, unless KEEP_CLOUD is set to look into what went wrong."""
        if os.environ.get("KEEP_CLOUD"):
            print(f"kept: PILEUS_CONFIG={self.config}")
            return
        self.pileus("purge", check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def host() -> dict[str, str]:
    """What the machine's own network looks like."""
    commands = {"links": "ip -o link", "addresses": "ip -o addr", "routes": "ip route", "rules": "nft list ruleset"}
    texts = {}
    for name, command in commands.items():
        text = subprocess.run(command.split(), capture_output=True, text=True, check=False).stdout
        texts[name] = "\n".join(line.split(" valid_lft")[0] for line in text.splitlines())
    return texts


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    return json.dumps(value)


def missing() -> str:
    """Why real guests cannot run here; "" when they can."""
    if os.geteuid() != 0:
        return "needs root: namespaces, taps and bridges"
    absent = [p for p in ("qemu-system-x86_64", "bwrap", "dnsmasq", "nft") if shutil.which(p) is None]
    if absent:
        return f"not installed: {', '.join(absent)} (packages.txt)"
    return "" if guest_image().exists() else "make guest builds the guest image"


def guest_image() -> Path:
    return IMAGES / "disk.qcow2"
