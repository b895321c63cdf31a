"""The operator's rules: policy.yaml and the files of policy.d beside it, read again when one of them changes.

Source: oslo.policy documentation, "policy.yaml" and `policy_dirs`: later files win over earlier ones.  At the start a
rule that cannot be read, or that nobody declares, stops everything; afterwards the rules in force stay, and the log
tells why.
"""

import logging
import time
from pathlib import Path

import yaml

from pileus.core.policy import Enforcer, PolicyError

log = logging.getLogger("pileus.policy")
LOOK_SECONDS = 1.0
Stamps = tuple[tuple[str, int, int], ...]


class PolicyFiles:
    """The files of one folder; `refresh` is cheap enough for every request."""

    def __init__(self, folder: Path, enforcer: Enforcer):
        self.folder, self.enforcer = folder, enforcer
        self._looked = 0.0
        self._stamps: Stamps = ()

    def paths(self) -> list[Path]:
        """The files that are there, in the order in which they win."""
        extra = self.folder / "policy.d"
        more = sorted([*extra.glob("*.yaml"), *extra.glob("*.json")]) if extra.is_dir() else []
        return [p for p in (self.folder / "policy.yaml", *more) if p.is_file()]

    def load(self) -> None:
        """Put the operator's rules in force; raises PolicyError, and then changes nothing."""
        rules: dict[str, str] = {}
        for path in self.paths():
            try:
                given = yaml.safe_load(path.read_text()) or {}
            except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
                raise PolicyError(f"{path}: {error}") from None
            if not isinstance(given, dict) or not all(isinstance(v, str) for kv in given.items() for v in kv):
                raise PolicyError(f"{path}: expected names of rules with texts")
            rules |= given
        self._stamps = self._stamp()
        self.enforcer.override(rules)
        log.info("policy: %d rules of the operator are in force", len(rules))

    def refresh(self) -> None:
        """Look whether a file changed, at most once a second; what is wrong with it goes to the log."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        stamps = self._stamp()
        if stamps == self._stamps:
            return
        self._stamps = stamps
        try:
            self.load()
        except PolicyError as error:
            log.error("policy: the files changed and were not taken over: %s", error)

    def _stamp(self) -> Stamps:
        found = []
        for path in self.paths():
            try:
                at = path.stat()
            except OSError:  # removed at this moment
                continue
            found.append((str(path), at.st_mtime_ns, at.st_size))
        return tuple(found)
