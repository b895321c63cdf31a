"""A cloud of its own to measure: started by the `pileus` command in a folder that is removed afterwards."""

import http.client
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Figure:
    """One row: milliseconds for each operation as the client waits, and CPU milliseconds of all Pileus processes."""

    name: str
    waits: list[float] = field(default_factory=list)
    cpu_ms: float = 0.0  # for one operation
    each_second: float = 0.0

    def row(self) -> str:
        ordered = sorted(self.waits)
        p95 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]
        p50 = statistics.median(ordered)
        return f"| {self.name} | {len(ordered)} | {self.cpu_ms:.2f} | {p50:.2f} | {p95:.2f} | {self.each_second:.1f} |"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Cloud:
    """A running cloud and one logged-in administrator."""

    def __init__(self, settings: str):
        self.folder = Path(tempfile.mkdtemp(prefix="pileus-bench-"))
        self.folder.chmod(0o755)
        self.port = free_port()
        config = self.folder / "pileus.toml"
        config.write_text(f'state = "{self.folder}/state"\nport = {self.port}\n{settings}')
        self.command = [str(Path(sys.executable).parent / "pileus"), "--config", str(config)]
        self.local = threading.local()
        self.token = ""

    def __enter__(self) -> "Cloud":
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run([*self.command, "down"], check=False, capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def up(self) -> float:
        """Seconds from the command to all APIs answering."""
        began = time.perf_counter()
        subprocess.run([*self.command, "up"], check=True, capture_output=True)
        return time.perf_counter() - began

    def down(self) -> None:
        subprocess.run([*self.command, "down"], check=True, capture_output=True)

    def status(self) -> dict[str, Any]:
        """What `pileus status --json` says."""
        told = subprocess.run([*self.command, "status", "--json"], check=False, capture_output=True, text=True)
        return dict(json.loads(told.stdout))

    def password(self) -> str:
        for line in (self.folder / "state" / "passwords").read_text().splitlines():
            name, _, secret = line.partition(" ")
            if name == "admin":
                return secret
        raise LookupError("no password for admin")

    def login_body(self) -> dict[str, Any]:
        domain = {"id": "default"}
        who = {"name": "admin", "domain": domain, "password": self.password()}
        scope = {"project": {"name": "admin", "domain": domain}}
        return {"auth": {"identity": {"methods": ["password"], "password": {"user": who}}, "scope": scope}}

    def login(self) -> None:
        status, headers, raw = self.send("POST", "/identity/v3/auth/tokens", self.login_body())
        if status != 201:
            raise RuntimeError(f"login: {status} {raw[:300]!r}")
        self.token = headers["x-subject-token"]

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """One request on this thread's kept connection."""
        connection = getattr(self.local, "connection", None)
        if connection is None:
            connection = self.local.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        head = {"x-auth-token": self.token, "content-type": "application/json"}
        head.update({name.replace("_", "-"): value for name, value in headers.items()})
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, data, head)
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """The decoded answer; raises RuntimeError for a refusal."""
        status, _, raw = self.send(method, path, body, **headers)
        if status >= 400:
            raise RuntimeError(f"{method} {path}: {status} {raw[:300]!r}")
        return json.loads(raw) if raw[:1] in (b"{", b"[") else raw

    def cpu_ms(self) -> float:
        """CPU milliseconds used so far by all processes of this cloud."""
        ticks = 0
        for process in json.loads((self.folder / "state" / "run" / "processes.json").read_text()).values():
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks * 1000 / TICKS

    def measure(self, name: str, work: Callable[[Any], Any], items: Iterable[Any], parallel: int = 1) -> Figure:
        """Run `work` for each item, `parallel` at a time."""
        waits: list[float] = []

        def timed(item: Any) -> None:
            began = time.perf_counter()
            work(item)
            waits.append((time.perf_counter() - began) * 1000)

        todo = list(items)
        cpu, began = self.cpu_ms(), time.perf_counter()
        if parallel == 1:
            for item in todo:
                timed(item)
        else:
            with ThreadPoolExecutor(parallel) as pool:
                list(pool.map(timed, todo))
        seconds = time.perf_counter() - began
        return Figure(name, waits, (self.cpu_ms() - cpu) / len(todo), len(todo) / seconds)
