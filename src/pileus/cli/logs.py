"""pileus logs: one place for all processes, readable, or the lines of one request."""

import argparse
import json

from pileus.core.config import Config


def logs(config: Config, arguments: list[str]) -> int:
    """Print log lines; a word selects lines that hold it (a request id, a server id)."""
    parser = argparse.ArgumentParser("pileus logs")
    parser.add_argument("word", nargs="?", default="", help="only lines with this word")
    given = parser.parse_args(arguments)
    for line in (config.folder / "logs" / "pileus.log").open():
        if given.word not in line:
            continue
        try:
            entry = json.loads(line)
        except ValueError:
            print(line, end="")
            continue
        print(entry["time"], entry["level"].upper(), entry["role"], entry.get("request_id", "-"), entry["message"])
        if "traceback" in entry:
            print(entry["traceback"])
    return 0
