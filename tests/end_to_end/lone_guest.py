"""The guest image under QEMU alone: no cloud, only user-mode networking and a metadata service of the test's."""

import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from pileus.metadata import document

IMAGES = Path(__file__).parents[2] / ".cache" / "guest"
SSH = ("ssh", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
       "-o", "ConnectTimeout=5", "-o", "ServerAliveInterval=5", "-o", "BatchMode=yes")  # fmt: skip


class Metadata(ThreadingHTTPServer):
    """Answers from a tree of files, as the metadata service does."""

    def __init__(self, files: Mapping[str, bytes]):
        outer = self
        self.asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None: ...

            def do_GET(self) -> None:
                outer.asked.append(self.path)
                found = document.lookup(files, self.path)
                self.send_response(404 if found is None else 200)
                self.send_header("content-length", str(len(found or b"")))
                self.end_headers()
                self.wfile.write(found or b"")

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class LoneGuest:
    """One boot of the image with its own overlay; `key` is a private key whose public half the guest was told."""

    def __init__(self, folder: Path, key: Path, metadata: Metadata | None = None, extra: Sequence[str] = (),
                 machine: str = "q35", ram: int = 192, disk: Path | None = None):  # fmt: skip
        self.folder, self.key, self.port = folder, key, free_port()
        self.disk = disk or folder / "disk.qcow2"
        if not self.disk.exists():
            image = str(IMAGES / "disk.qcow2")
            subprocess.run(
                ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", image, str(self.disk), "1G"],
                check=True,
            )
        forward = f"hostfwd=tcp:127.0.0.1:{self.port}-:22"
        if metadata:
            forward += f",guestfwd=tcp:169.254.169.254:80-cmd:busybox nc 127.0.0.1 {metadata.server_address[1]}"
        self.console = folder / "console.log"
        self.monitor = folder / "monitor.sock"
        argv = [
            "qemu-system-x86_64", "-machine", machine, "-accel", "tcg,tb-size=64", "-m", str(ram), "-nodefaults",
            "-display", "none",
            "-serial", f"file:{self.console}", "-monitor", f"unix:{self.monitor},server=on,wait=off",
            "-drive", f"if=none,id=root,file={self.disk},format=qcow2",
            "-device", "virtio-blk-pci,drive=root,bootindex=1",
            "-netdev", f"user,id=net,net=169.254.169.0/24,restrict=on,{forward}",
            "-device", "virtio-net-pci,netdev=net",
            *extra,
        ]  # fmt: skip
        self.started = time.monotonic()
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=(folder / "qemu.log").open("w"))

    def run(self, command: str, check: bool = True, user: str = "cirros") -> str:
        """A command over ssh; its output with errors."""
        argv = [*SSH, "-p", str(self.port), "-i", str(self.key), f"{user}@127.0.0.1"]
        script = f"set -eu -o pipefail; PATH=$PATH:/sbin:/usr/sbin; {command}"
        done = subprocess.run(
            [*argv, script], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
        )
        if check and done.returncode:
            raise AssertionError(f"{command}: status {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def wait_for_ssh(self, seconds: float = 120) -> float:
        """Seconds from the start of QEMU until a command ran."""
        while True:
            if self.run("echo here", check=False).strip() == "here":
                return time.monotonic() - self.started
            if time.monotonic() - self.started > seconds or self.process.poll() is not None:
                raise AssertionError(f"no ssh: {self.said()[-2000:]}")
            time.sleep(0.2)

    def said(self) -> str:
        """Everything on the serial console so far."""
        return self.console.read_text(errors="replace") if self.console.exists() else ""

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def tell(self, command: str) -> str:
        """A command of QEMU's human monitor."""
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.connect(str(self.monitor))
            monitor.settimeout(10)
            heard = b""
            while not heard.endswith(b"(qemu) "):
                heard += monitor.recv(4096)
            monitor.sendall(command.encode() + b"\n")
            heard = b""
            while not heard.endswith(b"(qemu) "):
                heard += monitor.recv(4096)
            return heard.decode(errors="replace")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
