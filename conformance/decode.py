"""Run by Tempest's own Python: a subunit stream on standard input → one JSON object a test on standard output."""

import json
import sys
from typing import Any

import subunit
import testtools

FINAL = {"success": "passed", "xfail": "passed", "fail": "failed", "uxsuccess": "failed", "skip": "skipped"}
SHOWN = ("traceback", "reason")


class Printer(testtools.StreamResult):
    """Gathers what belongs to each test and prints it when the test ends."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: dict[str, dict[str, bytes]] = {}
        self.began: dict[str, Any] = {}

    def status(self, test_id=None, test_status=None, file_name=None, file_bytes=None, timestamp=None, **_: Any) -> None:
        """One event of the stream."""
        if test_id is None:
            return
        if file_name:
            texts = self.texts.setdefault(test_id, {})
            texts[file_name] = texts.get(file_name, b"") + (file_bytes or b"")
        if test_status == "inprogress":
            self.began[test_id] = timestamp
        elif test_status in FINAL:
            self.finish(test_id, FINAL[test_status], timestamp)

    def finish(self, test_id: str, status: str, timestamp: Any) -> None:
        """Print one test."""
        texts = self.texts.pop(test_id, {})
        chosen = [data for name, data in texts.items() if name.startswith(SHOWN)]
        began = self.began.pop(test_id, None)
        seconds = (timestamp - began).total_seconds() if began and timestamp else 0.0
        reason = b"\n".join(chosen).decode(errors="replace").strip() if status != "passed" else ""
        line = {"name": test_id.partition("[")[0], "status": status, "reason": reason, "seconds": round(seconds, 2)}
        sys.stdout.write(json.dumps(line) + "\n")


printer = Printer()
printer.startTestRun()
subunit.ByteStreamToStreamResult(sys.stdin.buffer, non_subunit_name="stdout").run(printer)
printer.stopTestRun()
