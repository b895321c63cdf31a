"""Tempest in a virtual environment of its own: what tests it has, its configuration, one run."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from conformance.outcome import Outcome

BIN = Path(".cache/conformance/bin").resolve()
TEMPLATE = Path(__file__).parent / "tempest.conf"
DECODER = Path(__file__).parent / "decode.py"


class Tempest:
    """A workspace below `into`, made anew."""

    def __init__(self, into: Path):
        self.into, self.workspace = into, into / "workspace"
        for old in (self.workspace, into / ".tempest"):  # the latter is Tempest's registry of workspaces
            shutil.rmtree(old, ignore_errors=True)
        into.mkdir(parents=True, exist_ok=True)
        self._call("init", str(self.workspace), cwd=into)

    def _call(self, *arguments: str, cwd: Path | None = None) -> str:
        done = subprocess.run(
            [str(BIN / "tempest"), *arguments], cwd=cwd or self.workspace, capture_output=True, text=True, check=False,
            env=self._environment(),
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"tempest {arguments[0]}: {done.stdout}{done.stderr}")
        return done.stdout

    def _environment(self) -> dict[str, str]:
        """Nothing of another cloud or another Tempest of this machine; its registry of workspaces is ours."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("OS_", "TEMPEST_"))}
        return {**kept, "HOME": str(self.into), "PATH": f"{BIN}:{kept.get('PATH', '')}", "OS_TEST_TIMEOUT": "1200"}

    def tests(self) -> list[str]:
        """Every test with its attributes: `module.Class.test[id-…,smoke]`."""
        return [line for line in self._call("run", "--list-tests").splitlines() if line.startswith("tempest.")]

    def configure(self, values: Mapping[str, str]) -> None:
        """Fill in the template's placeholders; nothing else changes.  Raises LookupError for an unknown one."""
        known = {"WORKSPACE": str(self.workspace), **values}

        def value(found: re.Match[str]) -> str:
            if found[1] not in known:
                raise LookupError(f"the configuration has a placeholder without a value: {found[1]}")
            return known[found[1]]

        lines = TEMPLATE.read_text().splitlines(keepends=True)
        filled = [line if line.startswith("#") else re.sub(r"@([A-Z0-9_]+)@", value, line) for line in lines]
        (self.workspace / "etc" / "tempest.conf").write_text("".join(filled))

    def run(self, ids: Sequence[str], concurrency: int, enter: Sequence[str]) -> list[Outcome]:
        """Run these tests and no other; what became of each."""
        chosen = self.workspace / "chosen.txt"
        chosen.write_text("\n".join(ids) + "\n")
        command = [str(BIN / "tempest"), "run", "--load-list", str(chosen), "--concurrency", str(concurrency)]
        with (self.into / "console.txt").open("w") as console:
            subprocess.run(
                [*enter, *command], cwd=self.workspace, stdout=console, stderr=subprocess.STDOUT, check=False,
                env=self._environment(),
            )  # fmt: skip
        return self._outcomes(ids)

    def _outcomes(self, ids: Sequence[str]) -> list[Outcome]:
        last = [str(BIN / "stestr"), "last", "--subunit"]
        stream = subprocess.run(
            last, cwd=self.workspace, capture_output=True, check=False, env=self._environment()
        ).stdout
        if not stream:
            raise RuntimeError(f"tempest did not run: see {self.into / 'console.txt'}")
        told = subprocess.run([str(BIN / "python"), str(DECODER)], input=stream, capture_output=True, check=True)
        found = [Outcome(**json.loads(line)) for line in told.stdout.splitlines()]
        return settle(ids, found)


def settle(ids: Sequence[str], found: Sequence[Outcome]) -> list[Outcome]:
    """One outcome for each chosen test: a class whose set-up failed or skipped speaks for its tests."""
    own = {outcome.name: outcome for outcome in found if not outcome.name.startswith("setUpClass")}
    classes = {o.name[len("setUpClass (") : -1]: o for o in found if o.name.startswith("setUpClass (")}
    missing = Outcome("", "failed", "did not run")
    settled = []
    for name in (test.partition("[")[0] for test in ids):
        spoke = own.get(name) or classes.get(name.rpartition(".")[0]) or missing
        settled.append(Outcome(name, spoke.status, spoke.reason, spoke.seconds))
    torn = [o for o in found if o.name.startswith("tearDownClass") and o.status == "failed"]
    return settled + torn
