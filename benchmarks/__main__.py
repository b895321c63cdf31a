"""python -m benchmarks [identity networks images volumes servers real]: print the figures as a table."""

import platform
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.cloud import Cloud, Figure
from benchmarks.rows import ROWS, World

FAKE = 'hypervisor = "fake"\nswitch = "fake"\nblock = "fake"\n'
GUEST = Path(".cache/guest/disk.qcow2")


def machine() -> str:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        "",
    )
    load = Path("/proc/loadavg").read_text().split()[0]
    build = f"{platform.python_implementation()} {platform.python_version()} ({sys.executable})"
    return f"{model}, {len(list(Path('/sys/devices/system/cpu').glob('cpu[0-9]*')))} CPUs, load {load}, {build}"


def start_and_memory(cloud: Cloud) -> None:
    """Seconds to answer on an installed machine, and resident memory at rest."""
    waits = []
    for _ in range(5):
        cloud.down()
        waits.append(cloud.up())
    resident = {p["role"]: p["resident_bytes"] / 2**20 for p in cloud.status()["processes"]}
    print(f"start to all APIs answering: median {sorted(waits)[2]:.2f} s of 5; after it {cloud.cpu_ms():.0f} CPU ms")
    print("memory: " + ", ".join(f"{role} {mib:.0f} MiB" for role, mib in resident.items()), end="")
    print(f", together {sum(resident.values()):.0f} MiB\n")


def real_servers() -> None:
    """Create to ssh with real QEMU, through the demo of the command itself."""
    with Cloud('namespace = "pileus-bench"\n') as cloud:
        began = time.perf_counter()
        subprocess.run([*cloud.command, "demo", "--image", str(GUEST)], check=True, capture_output=True)
        print(f"first server over ssh with real QEMU, image upload included: {time.perf_counter() - began:.1f} s")


def main(names: list[str]) -> None:
    print(machine(), "\n")
    chosen = names or [*ROWS, "real"]
    if set(chosen) & set(ROWS):
        with Cloud(FAKE) as cloud:
            start_and_memory(cloud)
            cloud.login()
            world = World(cloud)
            print("| work | times | CPU ms each | p50 ms | p95 ms | each second |\n|---|---|---|---|---|---|")
            for name in chosen:
                for figure in ROWS[name](world) if name in ROWS else ():
                    assert isinstance(figure, Figure)
                    print(figure.row(), flush=True)
    if "real" in chosen:
        real_servers()


if __name__ == "__main__":
    main(sys.argv[1:])
