"""Stores of image bytes: nothing is visible before it is whole, nothing is left of what was given up."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pileus.drivers.blob.file import FileBlob
from pileus.image.drivers import Blob


@pytest.fixture
def blob(tmp_path: Path) -> Blob:
    return FileBlob(tmp_path / "images")


def files(tmp_path: Path) -> list[str]:
    return sorted(p.name for p in tmp_path.rglob("*") if p.is_file())


def fill(blob: Blob, name: str, data: bytes) -> None:
    writer = blob.create(name)
    writer.write(data)
    writer.commit()


def test_what_is_committed_reads_back_whole_and_in_parts(blob: Blob) -> None:
    data = os.urandom(300_000) + bytes(1 << 20) + b"end"
    fill(blob, "a", data)
    assert blob.size("a") == len(data) and blob.open("a").read() == data
    assert b"".join(blob.read("a", 0, len(data))) == data
    assert b"".join(blob.read("a", 299_990, 20, chunk=7)) == data[299_990:300_010]
    assert b"".join(blob.read("a", len(data) - 2, 100)) == b"nd"
    assert list(blob.list()) == ["a"]


def test_trailing_zeros_keep_the_length(blob: Blob) -> None:
    fill(blob, "zeros", b"x" + bytes(5 << 20))
    assert blob.size("zeros") == (5 << 20) + 1


def test_nothing_is_visible_before_commit_and_nothing_left_after_abort(blob: Blob, tmp_path: Path) -> None:
    writer = blob.create("a")
    writer.write(b"half")
    assert list(blob.list()) == []
    with pytest.raises(LookupError):
        blob.open("a")
    writer.abort()
    writer.abort()
    assert files(tmp_path) == []


def test_commit_replaces_nothing(blob: Blob, tmp_path: Path) -> None:
    first, second = blob.create("a"), blob.create("a")
    first.write(b"1")
    second.write(b"2")
    first.commit()
    with pytest.raises(FileExistsError):
        second.commit()
    with pytest.raises(FileExistsError):
        blob.create("a")
    assert blob.open("a").read() == b"1" and files(tmp_path) == ["a"]


def test_remove_twice_is_once_and_takes_partial_uploads_along(blob: Blob, tmp_path: Path) -> None:
    fill(blob, "a", b"1")
    blob.create("b").write(b"half")
    assert blob.remove("a") and blob.remove("a") and blob.remove("b") and blob.remove("never")
    assert files(tmp_path) == []


def test_unknown_and_evil_names_are_refused(blob: Blob, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    for name in ("never", "../../secret", "..", "", "a/b", "a\0b"):
        with pytest.raises(LookupError):
            blob.open(name)
        with pytest.raises(LookupError):
            blob.size(name)
        with pytest.raises(LookupError):
            blob.read(name, 0, 1)
    with pytest.raises(ValueError, match="no name"):
        blob.create("../x")


def test_concurrent_uploads_do_not_disturb_each_other(blob: Blob) -> None:
    def one(name: str) -> None:
        writer = blob.create(name)
        for _ in range(50):
            writer.write(name.encode() * 1000)
        writer.commit()

    threads = [threading.Thread(target=one, args=(f"n{i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(blob.open(name).read() == name.encode() * 50_000 for name in blob.list()) and len(blob.list()) == 8


def test_a_killed_writer_leaves_nothing_after_the_next_start_and_a_living_one_is_spared(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from pileus.drivers.blob.file import FileBlob\n"
        "w = FileBlob(Path(sys.argv[1])).create('dead'); w.write(b'half'); print('ready', flush=True); time.sleep(60)"
    )
    folder = tmp_path / "images"
    dying = subprocess.Popen([sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE)
    assert dying.stdout is not None and dying.stdout.readline() == b"ready\n"
    living = FileBlob(folder).create("living")
    living.write(b"whole")
    dying.send_signal(signal.SIGKILL)
    dying.wait()
    dying.stdout.close()
    time.sleep(0.01)
    again = FileBlob(folder)
    assert [name.split(".")[0] for name in files(tmp_path)] == ["living"]
    living.commit()
    assert list(again.list()) == ["living"] and again.open("living").read() == b"whole"
