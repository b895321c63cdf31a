"""pileus mapping: what rules of federation make of an assertion, before anybody logs in by them."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from pileus.core.config import Config
from pileus.core.errors import BadRequest


def mapping(_config: Config, arguments: list[str]) -> int:
    """Print it; 1 when the assertion means nobody, 2 when the rules or the assertion are none."""
    from pileus.identity.facade import Unmapped, try_mapping

    parser = argparse.ArgumentParser("pileus mapping")
    parser.add_argument("rules", type=Path, help="JSON file of rules, as `openstack mapping create --rules` takes it")
    parser.add_argument("assertion", type=Path, help='JSON file: {"OIDC-sub": "ann", "OIDC-groups": ["dev", "ops"]}')
    parser.add_argument("--schema-version", choices=("1.0", "2.0"), default="1.0")
    given = parser.parse_args(arguments)
    try:
        found = try_mapping(read_rules(given.rules), given.schema_version, read_attributes(given.assertion))
    except Unmapped as why:
        print(f"nobody: {why}")
        return 1
    except (BadRequest, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(found, indent=2, ensure_ascii=False))
    return 0


def read_rules(path: Path) -> Any:
    """The rules of a file, with or without what stands around them; raises ValueError."""
    found = json.loads(path.read_text())
    return found.get("rules", found) if isinstance(found, dict) else found


def read_attributes(path: Path) -> dict[str, list[str]]:
    """The attributes of a file, each with its values; raises ValueError."""
    found = json.loads(path.read_text())
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected an object of attributes")
    return {name: [str(v) for v in (value if isinstance(value, list) else [value])] for name, value in found.items()}
