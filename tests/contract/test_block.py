"""Block storage: the promises of the Protocol, kept by the fake and by files alike."""

import hashlib
import os
import shutil
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pileus.drivers.block.fake import FakeBlock
from pileus.drivers.block.fake import FakeMachine as FakeBlockMachine
from pileus.drivers.block.file.copies import Cancelled, copy_file
from pileus.drivers.block.file.driver import FileBlock
from pileus.drivers.block.file.places import GIB, PoolFolder
from pileus.drivers.image_cache import ImageCache
from pileus.volume.drivers import Block, Broken, Connection, ImageSource, Snapshot, Source, Volume

OWN, ELSEWHERE, THIRD = "node-own", "node-two", "node-three"
GUEST_UID = 62002 if os.geteuid() == 0 else os.geteuid()
IMAGE = ImageSource(id="img", format="raw", size=4 << 20, sha512="", url="")


class Images:
    """An image cache that needs `rounds` questions before it has the image."""

    def __init__(self, folder: Path, rounds: int = 1):
        self.file, self.rounds = folder / "img.raw", rounds
        self.file.write_bytes(b"IMAGE" * 1000 + bytes((4 << 20) - 5000))

    def ensure(self, image: ImageSource) -> int | None:
        self.rounds -= 1
        return self.file.stat().st_size if self.rounds < 0 else None

    def path(self, image: ImageSource) -> Path:
        return self.file


class Store:
    """A driver under test that can be started again, and a way to write and read what it keeps."""

    def __init__(self, kind: str, folder: Path):
        self.kind, self.folder = kind, folder
        self.machine = FakeBlockMachine()
        folder.chmod(0o711)
        self.images = Images(folder)
        self.started: list[FileBlock] = []
        self.block = self.start()

    def start(self, listen: str = "127.0.0.1") -> Block:
        if self.kind == "fake":
            return FakeBlock(self.machine, own_node_id=OWN, rounds=1)
        pools = {name: PoolFolder(folder=self.folder / name, backend=name) for name in ("file", "second")}
        self.started.append(FileBlock(pools, self.folder / "state", self.images, OWN, GUEST_UID, listen))
        return self.started[-1]

    def close(self) -> None:
        for block in self.started:
            block.close()

    def write(self, volume_id: str, content: str) -> None:
        if self.kind == "fake":
            return self.machine.write(volume_id, content)
        with Path(self.block.volume_path("file", volume_id)).open("r+b") as file:
            file.write(content.encode())
        return None

    def read(self, volume_id: str) -> str:
        if self.kind == "fake":
            return self.machine.read(volume_id)
        with Path(self.block.volume_path("file", volume_id)).open("rb") as file:
            return file.read(64).rstrip(b"\0").decode()


@pytest.fixture(params=["fake", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    for parent in tmp_path.parents[:3]:
        if str(parent) != "/tmp":
            parent.chmod(parent.stat().st_mode | 0o711)
    made = Store(request.param, tmp_path)
    yield made
    made.close()


def until(ask: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Ask again until the answer is neither None nor False."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if answer := ask():
            return answer
        time.sleep(0.01)
    raise AssertionError("it is still under way")


def make(store: Store, volume_id: str = "v1", size: int = 1, source: Source | None = None) -> Volume:
    volume = Volume(id=volume_id, pool="file", size_gib=size, source=source)
    assert until(lambda: store.block.ensure_volume(volume)).size_gib == size
    return volume


def snap(store: Store, snapshot_id: str = "s1", volume_id: str = "v1", copy_path: str = "") -> None:
    wanted = Snapshot(id=snapshot_id, volume_id=volume_id, pool="file", copy_path=copy_path)
    assert until(lambda: store.block.ensure_snapshot(wanted)) is True


def test_twice_is_once(store: Store) -> None:
    volume = make(store)
    store.write("v1", "kept")
    assert until(lambda: store.block.ensure_volume(volume)).size_gib == 1 and store.read("v1") == "kept"
    snap(store)
    snap(store)
    for _ in range(2):
        assert store.block.remove_snapshot("file", "s1") and store.block.remove_volume("file", "v1")
    assert list(store.block.list_things()) == []


def test_a_new_volume_shows_nothing_old(store: Store) -> None:
    make(store)
    store.write("v1", "secret")
    store.block.remove_volume("file", "v1")
    make(store)
    assert store.read("v1") == ""


def test_unknown_ids_are_no_error_for_remove_and_lookup_error_for_paths(store: Store) -> None:
    assert store.block.remove_volume("file", "never") and store.block.remove_snapshot("file", "never")
    assert store.block.remove_export("file", "never", OWN) and store.block.remove_export("file", "never", ELSEWHERE)
    with pytest.raises(LookupError):
        store.block.volume_path("file", "never")
    with pytest.raises(Broken):
        store.block.ensure_export("file", "never", OWN)


def test_a_pool_that_is_not_there_is_broken(store: Store) -> None:
    with pytest.raises(Broken, match="no pool 'gold'"):
        store.block.ensure_volume(Volume(id="v1", pool="gold", size_gib=1))
    assert {pool.name for pool in store.block.pools()} == {"file", "second"}
    assert all(pool.total_gib > 0 and pool.free_gib > 0 and pool.backend for pool in store.block.pools())


def test_volumes_grow_and_never_shrink(store: Store) -> None:
    make(store)
    store.write("v1", "kept")
    make(store, size=3)
    assert store.block.ensure_volume(Volume(id="v1", pool="file", size_gib=1)).size_gib == 3  # type: ignore[union-attr]  # None would fail the test here, as it should
    assert store.read("v1") == "kept"


def test_a_clone_holds_what_its_source_held_and_then_goes_its_own_way(store: Store) -> None:
    make(store)
    store.write("v1", "first")
    snap(store)
    store.write("v1", "later")
    make(store, "from-snapshot", 2, Source(kind="snapshot", id="s1"))
    make(store, "from-volume", 1, Source(kind="volume", id="v1"))
    assert store.read("from-snapshot") == "first" and store.read("from-volume") == "later"
    store.write("from-snapshot", "its own")
    make(store, "again", 1, Source(kind="snapshot", id="s1"))
    assert store.read("again") == "first" and store.read("v1") == "later"
    store.block.remove_volume("file", "v1")
    store.block.remove_snapshot("file", "s1")
    assert store.read("from-volume") == "later"


def test_a_volume_from_an_image_is_under_way_until_the_image_is_there(store: Store) -> None:
    wanted = Volume(id="v1", pool="file", size_gib=1, source=Source(kind="image", id="img", image=IMAGE))
    assert store.block.ensure_volume(wanted) is None
    assert until(lambda: store.block.ensure_volume(wanted)).size_gib == 1
    assert store.read("v1").startswith("IMAGE" if store.kind == "file" else "image img")


def test_revert_brings_the_snapshot_back(store: Store) -> None:
    make(store)
    for round_ in ("one", "two"):
        store.write("v1", round_)
        snap(store, f"s-{round_}")
        store.write("v1", "spoilt")
        assert until(lambda r=round_: store.block.revert("file", "v1", f"s-{r}")) is True
        assert store.read("v1") == round_
    with pytest.raises(Broken):
        store.block.revert("file", "v1", "never")


def test_missing_and_too_large_sources_are_broken(store: Store) -> None:
    make(store, size=2)
    snap(store)
    for source in (Source(kind="snapshot", id="never"), Source(kind="volume", id="never")):
        with pytest.raises(Broken, match="not in this pool"):
            store.block.ensure_volume(Volume(id="v2", pool="file", size_gib=1, source=source))
    with pytest.raises(Broken, match="GiB"):
        store.block.ensure_volume(Volume(id="v2", pool="file", size_gib=1, source=Source(kind="snapshot", id="s1")))
    with pytest.raises(Broken):
        store.block.ensure_snapshot(Snapshot(id="s2", volume_id="never", pool="file"))
    assert sorted(store.block.list_things()) == ["s1", "v1"]


def test_after_a_restart_everything_is_still_there(store: Store) -> None:
    make(store)
    store.write("v1", "kept")
    snap(store)
    store.block = store.start()
    assert sorted(store.block.list_things()) == ["s1", "v1"] and store.read("v1") == "kept"
    make(store, "v2", 1, Source(kind="snapshot", id="s1"))
    assert store.read("v2") == "kept"


def test_what_was_half_made_when_the_agent_died_is_made_again(store: Store) -> None:
    wanted = Volume(id="v1", pool="file", size_gib=1, source=Source(kind="image", id="img", image=IMAGE))
    store.block.ensure_volume(wanted)
    if store.kind == "file":
        (store.folder / "file" / "partial" / "volumes.v1.raw").write_bytes(b"half")
    store.block = store.start()
    assert list(store.block.list_things()) == []
    assert until(lambda: store.block.ensure_volume(wanted)).size_gib == 1


def test_its_own_node_gets_the_volume_itself_and_others_an_nbd_export(store: Store) -> None:
    make(store)
    own = until(lambda: store.block.ensure_export("file", "v1", OWN))
    other = until(lambda: store.block.ensure_export("file", "v1", ELSEWHERE))
    assert own.kind == "file" and own.path.endswith("v1.raw")
    assert other.kind == "nbd" and other.host and other.port and other.tls["identity"] == ELSEWHERE
    assert until(lambda: store.block.ensure_export("file", "v1", ELSEWHERE)) == other
    for node in (OWN, ELSEWHERE, ELSEWHERE):
        assert store.block.remove_export("file", "v1", node)
    store.block.remove_volume("file", "v1")
    assert list(store.block.list_things()) == []


def test_removing_a_volume_takes_its_exports_along(store: Store) -> None:
    make(store)
    for node in (OWN, ELSEWHERE):
        until(lambda n=node: store.block.ensure_export("file", "v1", n))
    assert store.block.remove_volume("file", "v1")
    assert list(store.block.list_things()) == []


def test_concurrent_calls_make_one_of_each(store: Store) -> None:
    make(store, "base")
    store.write("base", "base")
    wanted = [
        Volume(id=f"c{i % 4}", pool="file", size_gib=1, source=Source(kind="volume", id="base")) for i in range(16)
    ]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda v: until(lambda: store.block.ensure_volume(v)), wanted))
    assert all(store.read(f"c{i}") == "base" for i in range(4))
    assert sorted(store.block.list_things()) == ["base", "c0", "c1", "c2", "c3"]
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda v: until(lambda: store.block.remove_volume("file", v.id)), wanted))


# What only files promise.


@pytest.mark.skipif(not shutil.which("bwrap") or os.geteuid() != 0, reason="images are converted in a sandbox, by root")
def test_a_volume_from_a_real_qcow2_image_is_raw_and_as_large_as_asked(tmp_path: Path) -> None:
    for parent in (tmp_path, *tmp_path.parents[:3]):
        if str(parent) != "/tmp":
            parent.chmod(parent.stat().st_mode | 0o711)
    raw, packed = tmp_path / "disk.raw", tmp_path / "disk.qcow2"
    raw.write_bytes(os.urandom(1 << 20) + bytes(7 << 20))
    subprocess.run(["qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", raw, packed], check=True)
    data = packed.read_bytes()
    image = ImageSource(
        id=str(uuid.uuid4()),
        format="qcow2",
        size=len(data),
        sha512=hashlib.sha512(data).hexdigest(),
        url=packed.as_uri(),
    )
    cache = ImageCache(tmp_path / "cache", GUEST_UID, 1 << 40)
    pools = {"file": PoolFolder(folder=tmp_path / "pool", backend="file")}
    block = FileBlock(pools, tmp_path / "state", cache, OWN, GUEST_UID)
    wanted = Volume(id="v1", pool="file", size_gib=1, source=Source(kind="image", id=image.id, image=image))
    assert until(lambda: block.ensure_volume(wanted)).size_gib == 1
    path = Path(block.volume_path("file", "v1"))
    assert path.stat().st_size == GIB
    with path.open("rb") as file:
        assert file.read(8 << 20) == raw.read_bytes()


@pytest.fixture
def files(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Store]:
    for parent in tmp_path.parents[:3]:
        if str(parent) != "/tmp":
            parent.chmod(parent.stat().st_mode | 0o711)
    made = Store("file", tmp_path)
    yield made
    made.close()


def test_hostile_ids_become_no_paths(files: Store) -> None:
    for evil in ("../x", "a/b", "", "a\0", "x" * 200, ".."):
        with pytest.raises(ValueError, match="no id"):
            files.block.ensure_volume(Volume(id=evil, pool="file", size_gib=1))
        with pytest.raises(ValueError, match="no id"):
            files.block.remove_volume("file", evil)
    make(files)
    with pytest.raises(ValueError, match="no id of a node"):
        files.block.ensure_export("file", "v1", "node:key\nroot")


def test_a_snapshot_of_a_used_volume_comes_from_the_copy(files: Store, tmp_path: Path) -> None:
    make(files)
    files.write("v1", "now")
    copy = tmp_path / "copy.raw"
    copy.write_bytes(b"then")
    snap(files, copy_path=str(copy))
    copy.unlink()
    make(files, "v2", 1, Source(kind="snapshot", id="s1"))
    assert files.read("v2") == "then" and Path(files.block.volume_path("file", "v2")).stat().st_size == GIB


def test_empty_volumes_and_holes_take_no_room(files: Store) -> None:
    make(files, size=5)
    files.write("v1", "x")
    snap(files)
    for path in files.folder.rglob("*.raw"):
        if path.name != "img.raw":
            assert path.stat().st_blocks * 512 < 1 << 20, path


@pytest.mark.skipif(os.geteuid() != 0, reason="owners change only for root")
def test_the_guest_user_may_open_a_volume_only_while_it_is_exported(files: Store) -> None:
    make(files)
    path = Path(files.block.volume_path("file", "v1"))
    assert path.stat().st_uid == 0 and path.stat().st_mode & 0o077 == 0
    own = files.block.ensure_export("file", "v1", OWN)
    assert own is not None and subprocess.run(
        ["setpriv", f"--reuid={GUEST_UID}", f"--regid={GUEST_UID}", "--clear-groups", "dd", f"of={own.path}",
         "if=/dev/zero", "bs=512", "count=1", "conv=notrunc"], capture_output=True
    ).returncode == 0  # fmt: skip
    files.block.ensure_export("file", "v1", ELSEWHERE)
    files.block.remove_export("file", "v1", OWN)
    assert path.stat().st_uid == GUEST_UID
    files.block.remove_export("file", "v1", ELSEWHERE)
    assert path.stat().st_uid == 0


def test_a_copy_that_nobody_wants_any_more_ends(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(os.urandom(1 << 20))
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(Cancelled):
        copy_file(tmp_path / "a", tmp_path / "b", 0, cancelled)


def test_a_volume_moves_to_another_pool_and_only_the_old_bytes_are_removed(store: Store) -> None:
    make(store)
    store.write("v1", "moved")
    source = Source(kind="volume", id="v1", pool="file")
    wanted = Volume(id="v1", pool="second", size_gib=1, source=source)
    seen = until(lambda: store.block.ensure_volume(wanted))
    assert seen.size_gib == 1 and store.block.ensure_volume(wanted) == seen
    assert until(lambda: store.block.remove_volume("file", "v1")) and store.block.remove_volume("file", "v1")
    assert list(store.block.list_things()) == ["v1"]
    if store.kind == "file":
        assert Path(store.block.volume_path("second", "v1")).read_bytes()[:5] == b"moved"
        with pytest.raises(LookupError):
            store.block.volume_path("file", "v1")
    else:
        assert store.read("v1") == "moved"
    assert store.block.ensure_export("second", "v1", OWN) or until(
        lambda: store.block.ensure_export("second", "v1", OWN)
    )
    assert store.block.remove_volume("second", "v1")
    assert list(store.block.list_things()) == []


def test_every_file_in_a_pool_is_told_of_whatever_it_is_left_from(files: Store) -> None:
    for place in ("volumes/a.raw", "volumes/b.open", "snapshots/c.raw", "partial/volumes.d.raw"):
        (files.folder / "second" / place).touch()
    assert list(files.block.list_things()) == ["a", "b", "c", "d"]


def test_a_volume_that_is_removed_while_it_is_filled_is_gone(files: Store) -> None:
    files.images.rounds = 0
    with files.images.file.open("r+b") as file:
        for at in range(0, 400 << 20, 8 << 20):
            file.seek(at)
            file.write(os.urandom(1 << 20) * 4)
    wanted = Volume(id="v1", pool="file", size_gib=1, source=Source(kind="image", id="img", image=IMAGE))
    assert files.block.ensure_volume(wanted) is None
    assert "v1" in files.block.list_things()
    until(lambda: files.block.remove_volume("file", "v1"))
    assert list(files.block.list_things()) == []
    time.sleep(0.2)
    assert list(files.block.list_things()) == []
    make(files)
    assert files.read("v1") == ""


def test_copies_cross_file_systems(tmp_path: Path) -> None:
    data = os.urandom(3 << 20)
    source = Path("/dev/shm") / f"pileus-{os.getpid()}"
    source.write_bytes(data)
    try:
        copy_file(source, tmp_path / "b", 4 << 20, threading.Event())
    finally:
        source.unlink()
    assert (tmp_path / "b").read_bytes() == data + bytes(1 << 20)


class Client:
    """qemu-io on another node."""

    def __init__(self, folder: Path, connection: Connection):
        self.folder, self.connection = folder, connection
        folder.mkdir(exist_ok=True)

    def run(self, *commands: str, key: str = "", tls: bool = True) -> subprocess.CompletedProcess[str]:
        c = self.connection
        options = f"driver=nbd,server.type=inet,server.host={c.host},server.port={c.port},export={c.export}"
        arguments: list[str] = []
        if tls:
            (self.folder / "keys.psk").write_text(f"{c.tls['identity']}:{key or c.tls['key']}\n")
            secret = f"tls-creds-psk,id=t,dir={self.folder},endpoint=client,username={c.tls['identity']}"
            arguments, options = ["--object", secret], options + ",tls-creds=t,reconnect-delay=10"
        asked = [part for command in commands for part in ("-c", command)]
        return subprocess.run(
            ["qemu-io", *arguments, "--image-opts", options, *asked], capture_output=True, text=True, timeout=60
        )


needs_nbd = pytest.mark.skipif(
    not shutil.which("nbdkit") or not shutil.which("qemu-io"), reason="packages.txt names nbdkit and qemu-utils"
)


def export(files: Store, node: str = ELSEWHERE) -> Connection:
    found: Connection = until(lambda: files.block.ensure_export("file", "v1", node))
    return found


def daemon(files: Store) -> int:
    return int((files.folder / "state" / "exports" / "v1.pid").read_text())


@needs_nbd
def test_what_is_written_over_nbd_is_in_the_file_and_only_the_key_opens_it(files: Store, tmp_path: Path) -> None:
    make(files)
    client = Client(tmp_path / "client", export(files))
    written = client.run("write -P 0x5a 1M 64k", "flush", "read -P 0x5a 1M 64k")
    assert written.returncode == 0, written
    with Path(files.block.volume_path("file", "v1")).open("rb") as file:
        file.seek(1 << 20)
        assert file.read(65536) == b"\x5a" * 65536
    assert client.run("read 0 1", key="00" * 32).returncode != 0
    assert client.run("read 0 1", tls=False).returncode != 0
    assert client.run("read -P 0x5a 1M 64k").returncode == 0


@needs_nbd
def test_each_node_has_its_own_key_and_loses_it_alone(files: Store, tmp_path: Path) -> None:
    make(files)
    two, three = (Client(tmp_path / node, export(files, node)) for node in (ELSEWHERE, THIRD))
    assert two.connection.tls["key"] != three.connection.tls["key"]
    assert two.run("read 0 1").returncode == 0 and three.run("read 0 1").returncode == 0
    files.block.remove_export("file", "v1", ELSEWHERE)
    assert two.run("read 0 1").returncode != 0 and three.run("read 0 1").returncode == 0
    files.block.remove_export("file", "v1", THIRD)
    assert three.run("read 0 1").returncode != 0 and not list((tmp_path / "state" / "exports").iterdir())


@needs_nbd
def test_an_export_outlives_the_agent_and_one_that_was_killed_comes_back_the_same(files: Store, tmp_path: Path) -> None:
    make(files)
    connection = export(files)
    first = daemon(files)
    files.block = files.start()
    assert export(files) == connection and daemon(files) == first
    os.kill(first, signal.SIGKILL)
    client = Client(tmp_path / "client", connection)
    until(lambda: client.run("read 0 1").returncode == 0)
    assert daemon(files) != first and export(files) == connection


@needs_nbd
def test_a_daemon_whose_number_was_lost_is_not_left_behind(files: Store) -> None:
    make(files)
    connection, lost = export(files), daemon(files)
    (files.folder / "state" / "exports" / "v1.pid").unlink()
    assert export(files) == connection and daemon(files) != lost and not Path(f"/proc/{lost}/cmdline").exists()


@needs_nbd
def test_an_exported_volume_grows_and_a_waiting_client_goes_on(files: Store, tmp_path: Path) -> None:
    make(files)
    client = Client(tmp_path / "client", export(files))
    answers: list[subprocess.CompletedProcess[str]] = []
    commands = ["write -P 1 0 4k", "sleep 1500", "write -P 2 4k 4k", "flush", "read -P 1 0 4k"]
    guest = threading.Thread(target=lambda: answers.append(client.run(*commands)))
    guest.start()
    time.sleep(0.5)
    make(files, size=2)
    guest.join()
    assert answers[0].returncode == 0, answers[0]
    assert "2 GiB" in client.run("length").stdout
    assert client.run("read -P 2 4k 4k").returncode == 0


@needs_nbd
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become the guest user")
def test_the_daemon_is_nobody_special_and_its_keys_are_secret(files: Store) -> None:
    make(files)
    export(files)
    status = Path(f"/proc/{daemon(files)}/status").read_text()
    assert f"Uid:\t{GUEST_UID}\t{GUEST_UID}" in status and "NoNewPrivs:\t1" in status
    for path in (files.folder / "state" / "exports").iterdir():
        assert path.suffix in (".log", ".pid") or path.stat().st_mode & 0o077 == 0, path


def test_a_node_without_an_address_says_why_others_cannot_reach_it(files: Store) -> None:
    make(files)
    files.block = files.start(listen="")
    with pytest.raises(Broken, match="cannot be reached from other nodes"):
        files.block.ensure_export("file", "v1", ELSEWHERE)
