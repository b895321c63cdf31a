"""Images are hostile: what the cache refuses, what it leaves behind, and what it never shows of this machine."""

import datetime
import hashlib
import http.server
import ipaddress
import json
import os
import shutil
import ssl
import struct
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pileus.drivers.image_cache import ImageCache
from pileus.image.drivers import Broken, ImageSource

CANARY = b"canary-7f3a-of-the-host"
UID = 62002
LIMIT = 1 << 34

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the converter's cell is made by root")


class Lab:
    """A folder of images, a secret of the host, and a cache."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.secret = folder / "secret"
        self.secret.write_bytes(CANARY * 1000)
        self.secret.chmod(0o644)
        self.cache = ImageCache(folder / "cache", UID, LIMIT)

    def qcow2(self, *options: str, size: str = "1M") -> Path:
        path = self.folder / f"{uuid.uuid4()}.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-u", "-f", "qcow2", *options, path, size], check=True)
        return path

    def patched(self, offset: int, data: bytes) -> Path:
        """A qcow2 with some bytes of its header replaced."""
        path = self.qcow2()
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(data)
        return path

    def full(self) -> Path:
        """A qcow2 whose 1 MiB holds data."""
        raw = self.folder / "full.raw"
        raw.write_bytes(os.urandom(1 << 20))
        path = self.folder / "full.qcow2"
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, path], check=True)
        return path

    def written(self, data: bytes) -> Path:
        path = self.folder / str(uuid.uuid4())
        path.write_bytes(data)
        return path

    def ensure(self, image: ImageSource) -> int:
        deadline = time.monotonic() + 30
        while (size := self.cache.ensure(image)) is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        return size

    def left(self) -> list[str]:
        return sorted(path.name for path in self.cache.folder.iterdir())


def source(path: Path, form: str = "qcow2", **changes: object) -> ImageSource:
    data = path.read_bytes()
    facts: dict[str, object] = {
        "id": str(uuid.uuid4()), "format": form, "size": len(data),
        "sha512": hashlib.sha512(data).hexdigest(), "url": f"file://{path}",
    }  # fmt: skip
    return ImageSource(**(facts | changes))  # type: ignore[arg-type]  # given by name, so that a test says only what matters to it


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    for parent in tmp_path.parents[:3]:
        if str(parent) != "/tmp":
            parent.chmod(0o755)
    return Lab(tmp_path)


def json_backing(lab: Lab) -> Path:
    return lab.qcow2("-b", "json:" + json.dumps({"driver": "file", "filename": str(lab.secret)}), "-F", "raw")


def data_file(lab: Lab) -> Path:
    path = lab.folder / "d.qcow2"
    where = lab.folder / "data"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-o", f"data_file={where}", path, "1M"], check=True)
    where.unlink()
    where.symlink_to(lab.secret)
    return path


def vmdk(lab: Lab) -> Path:
    text = f'# Disk DescriptorFile\nversion=1\nCID=1\ncreateType="monolithicFlat"\nRW 20 FLAT "{lab.secret}" 0\n'
    return lab.written(text.encode().ljust(4096, b"\0"))


def polyglot(lab: Lab) -> Path:
    """A qcow2 that is an ISO 9660 as well."""
    data = bytearray(lab.qcow2("-b", str(lab.secret), "-F", "raw").read_bytes().ljust(1 << 18, b"\0"))
    data[0x8000:0x8006] = b"\x01CD001"
    return lab.written(bytes(data))


def truncated(lab: Lab) -> Path:
    data = lab.full().read_bytes()
    return lab.written(data[: len(data) // 2])


HOSTILE: dict[str, Callable[[Lab], Path]] = {
    "backing file": lambda lab: lab.qcow2("-b", str(lab.secret), "-F", "raw"),
    "json: backing": json_backing,
    "nbd: backing": lambda lab: lab.qcow2("-b", "nbd:127.0.0.1:10809", "-F", "raw"),
    "data file": data_file,
    "VMDK descriptor": vmdk,
    "ISO polyglot": polyglot,
    "bomb of 2^60 bytes": lambda lab: lab.patched(24, struct.pack(">Q", 1 << 60)),
    "bomb above the limit": lambda lab: lab.qcow2(size="17G"),
    "virtual size of nothing": lambda lab: lab.patched(24, struct.pack(">Q", 0)),
    "L1 table of 4 billion entries": lambda lab: lab.patched(36, struct.pack(">I", 0xFFFFFFFF)),
    "4 billion snapshots": lambda lab: lab.patched(60, struct.pack(">I", 0xFFFFFFFF)),
    "clusters of 2^63 bytes": lambda lab: lab.patched(20, struct.pack(">I", 63)),
    "unknown features": lambda lab: lab.patched(72, struct.pack(">Q", 1 << 40)),
    "truncated": truncated,
    "empty": lambda lab: lab.written(b""),
    "garbage": lambda lab: lab.written(os.urandom(1 << 16)),
    "text": lambda lab: lab.written(b"QFI"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_image_is_refused_with_a_reason_and_leaves_nothing(lab: Lab, kind: str) -> None:
    image = source(HOSTILE[kind](lab))
    with pytest.raises(Broken) as refused:
        lab.ensure(image)
    reason = str(refused.value)
    assert len(reason) > 10 and "\n" not in reason
    assert str(lab.folder) not in reason
    assert lab.left() == []
    with pytest.raises(Broken, match="^" + reason[:20].replace("(", r"\(")):
        lab.cache.ensure(image)  # remembered: asked again, it is refused at once
    with pytest.raises(LookupError):
        lab.cache.path(image)


def test_the_converter_itself_sees_no_file_of_the_host(lab: Lab) -> None:
    """The inspection may have a hole one day: the cell alone keeps the secret."""
    image = source(lab.qcow2("-b", str(lab.secret), "-F", "raw"))
    draft = lab.folder / "draft.part"
    source_file = lab.folder / "in.part"
    shutil.copy(image.url.removeprefix("file://"), source_file)
    with pytest.raises(Broken, match="cannot be converted"):
        lab.cache._convert(image, source_file, draft, 1 << 20)
    assert CANARY not in draft.read_bytes()


def test_a_qcow2_becomes_the_raw_bytes_that_it_holds(lab: Lab) -> None:
    image = source(lab.full())
    assert lab.ensure(image) == 1 << 20
    path = lab.cache.path(image)
    assert path.read_bytes() == (lab.folder / "full.raw").read_bytes()
    assert path.stat().st_uid == 0 and path.stat().st_mode & 0o077 == 0
    assert lab.left() == [path.name]


@pytest.mark.parametrize("kind", ["backing file", "VMDK descriptor", "garbage"])
def test_what_was_uploaded_as_raw_stays_those_bytes(lab: Lab, kind: str) -> None:
    origin = HOSTILE[kind](lab)
    image = source(origin, "raw")
    lab.ensure(image)
    assert lab.cache.path(image).read_bytes() == origin.read_bytes()


def test_holes_stay_holes(lab: Lab) -> None:
    sparse = lab.folder / "sparse.raw"
    with sparse.open("wb") as file:
        file.truncate(64 << 20)
    for image in (source(sparse, "raw"), source(lab.qcow2(size="64M"))):
        assert lab.ensure(image) == 64 << 20
        assert lab.cache.path(image).stat().st_blocks * 512 < 1 << 20


@pytest.mark.parametrize(
    "changes",
    [
        {"sha512": "0" * 128},
        {"size": 4},
        {"size": 1 << 30},
        {"url": "http://127.0.0.1/x"},
        {"url": "https://127.0.0.1/x"},
    ],
    ids=str,
)
def test_bytes_that_are_not_as_announced_are_refused(lab: Lab, changes: dict[str, object]) -> None:
    with pytest.raises(Broken):
        lab.ensure(source(lab.full(), **changes))
    assert lab.left() == []


def test_a_store_that_is_away_is_no_fault_of_the_image(lab: Lab) -> None:
    path = lab.full()
    image = source(path)
    away = path.rename(path.with_suffix(".away"))
    with pytest.raises(FileNotFoundError):
        lab.ensure(image)
    away.rename(path)
    assert lab.ensure(image) == 1 << 20


def test_many_ask_at_once_and_one_file_results(lab: Lab) -> None:
    image = source(lab.full())
    sizes: list[int] = []
    threads = [threading.Thread(target=lambda: sizes.append(lab.ensure(image))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sizes == [1 << 20] * 6
    assert len(lab.left()) == 1


def test_a_new_cache_drops_drafts_and_keeps_images(lab: Lab) -> None:
    image = source(lab.full())
    lab.ensure(image)
    (lab.cache.folder / "x.part").write_bytes(b"half")
    heir = ImageCache(lab.cache.folder, UID, LIMIT)
    assert heir.ensure(image) == 1 << 20
    assert len(lab.left()) == 1


def test_only_what_nothing_used_for_long_is_pruned(lab: Lab) -> None:
    old, kept, fresh = images = [source(lab.qcow2()) for _ in range(3)]
    for image in images:
        lab.ensure(image)
    for image in (old, kept):
        os.utime(lab.cache.path(image), (0, 0))
    assert lab.cache.prune(keep={kept.id}) == [old.id]
    assert lab.cache.prune(keep={kept.id}) == []
    with pytest.raises(LookupError):
        lab.cache.path(old)
    assert lab.cache.path(kept) and lab.cache.path(fresh)


@pytest.fixture
def https(lab: Lab) -> Iterator[tuple[str, ssl.SSLContext]]:
    """A controller on another machine: its URL, and the context that trusts it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "controller")])
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    pem = made.add_extension(address, critical=False).sign(key, hashes.SHA256())
    both = lab.folder / "controller.pem"
    both.write_bytes(
        pem.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    answering = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    answering.load_cert_chain(both)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(lab.folder))  # type: ignore[arg-type]  # given by name, so that a test says only what matters to it

        def log_message(self, *args: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    server.socket = answering.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://127.0.0.1:{server.server_port}", ssl.create_default_context(cafile=str(both))
    server.shutdown()
    server.server_close()


def test_a_node_that_joined_fetches_over_tls(lab: Lab, https: tuple[str, ssl.SSLContext]) -> None:
    url, trust = https
    path = lab.full()
    image = source(path, url=f"{url}/{path.name}")
    joined = ImageCache(lab.folder / "second", UID, LIMIT, trust)
    lab.cache = joined
    assert lab.ensure(image) == 1 << 20
    with pytest.raises(OSError, match="404"):
        lab.ensure(source(path, url=f"{url}/nothing"))
    lab.cache = ImageCache(lab.folder / "third", UID, LIMIT, ssl.create_default_context())
    with pytest.raises(ssl.SSLCertVerificationError):
        lab.ensure(image)
