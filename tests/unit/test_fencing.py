"""Epochs are remembered over kills and full disks: an old lease never comes through again."""

from pathlib import Path

import pytest

from pileus.node import fencing
from pileus.node.fencing import Fence
from pileus.node.wire import Stale


def test_an_old_epoch_is_refused_after_a_restart(tmp_path: Path) -> None:
    Fence(tmp_path / "epochs").admit("server/a", 5)
    again = Fence(tmp_path / "epochs")
    again.admit("server/a", 5)
    with pytest.raises(Stale):
        again.admit("server/a", 4)


def test_a_line_that_was_cut_short_harms_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "epochs"
    before = Fence(path)
    before.admit("server/a", 12)
    before.admit("server/b", 34)
    path.write_bytes(path.read_bytes()[:-1])  # server/b 3
    monkeypatch.setattr(Path, "write_text", full)
    after = Fence(path)
    after.admit("server/c", 56)
    monkeypatch.undo()
    last = Fence(path)
    for lease, old in (("server/a", 11), ("server/c", 55)):
        with pytest.raises(Stale):
            last.admit(lease, old)


def full(*_: object, **__: object) -> int:
    raise OSError(28, "No space left on device")


def test_the_file_does_not_grow_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fencing, "COMPACT_LINES", 10)
    fence = Fence(tmp_path / "epochs")
    for epoch in range(1, 100):
        fence.admit("server/a", epoch)
    assert len((tmp_path / "epochs").read_text().splitlines()) < 20
    with pytest.raises(Stale):
        Fence(tmp_path / "epochs").admit("server/a", 98)
