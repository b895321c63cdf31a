"""pileus status: what runs, where it answers, what warns."""

import argparse
import json
from pathlib import Path
from typing import Any

from pileus import __version__
from pileus.cli.up import answers
from pileus.core.config import Config
from pileus.roles.supervisor import processes


def resident_bytes(pid: int) -> int:
    """Resident memory of a process that is its own: shared pages are divided among those who share (PSS)."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def gather(config: Config) -> dict[str, Any]:
    """The status as a program reads it."""
    found = processes(config.folder / "run")
    ready = bool(found) and answers(config)
    warnings = []
    accelerator = config.folder / "node" / "accelerator"
    if accelerator.exists() and accelerator.read_text().strip() == "tcg":
        warnings.append("KVM cannot be used here: guests run under TCG, ten times slower (pileus doctor)")
    return {
        "ready": ready,
        "auth_url": f"{config.url}/identity/v3",
        "dashboard_url": None,
        "clouds_yaml": str(config.folder / "clouds.yaml"),
        "version": __version__,
        "processes": [{"role": r, "pid": p, "resident_bytes": resident_bytes(p)} for r, p in found.items()],
        "warnings": warnings,
    }


def status(config: Config, arguments: list[str]) -> int:
    """Print the status; 0 when ready."""
    parser = argparse.ArgumentParser("pileus status")
    parser.add_argument("--json", action="store_true", help="for programs")
    given = parser.parse_args(arguments)
    found = gather(config)
    if given.json:
        print(json.dumps(found, indent=1))
    else:
        print("Pileus", found["version"], "is ready" if found["ready"] else "is not running")
        print("  auth_url", found["auth_url"])
        for process in found["processes"]:
            print(f"  {process['role']:<11}{process['pid']:>8}{process['resident_bytes'] / 2**20:>8.0f} MiB")
        for warning in found["warnings"]:
            print("  warning:", warning)
    return 0 if found["ready"] else 1
