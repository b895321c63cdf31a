"""What a kill may leave behind of long work on a node is told of by whose it was."""

import uuid
from pathlib import Path

from pileus.drivers.hypervisor.qemu.copies import Copies
from pileus.drivers.image_cache import ImageCache


def test_copies_of_disks_with_their_drafts_are_listed_by_id(tmp_path: Path) -> None:
    copies = Copies(tmp_path)
    done, part, draft = (str(uuid.uuid4()) for _ in range(3))
    for name in (done, f"{part}.part", f"{draft}.{uuid.uuid4()}.draft"):
        (tmp_path / name).touch()
    assert copies.list() == sorted([done, part, draft])
    for copy_id in (done, part):
        assert copies.remove(copy_id)
    assert Copies(tmp_path).list() == []  # drafts are of threads that died with the agent


def test_drafts_of_images_are_listed_by_image_and_end_with_the_agent(tmp_path: Path) -> None:
    cache, image_id = ImageCache(tmp_path, 62002, 1 << 30), str(uuid.uuid4())
    (tmp_path / f"{image_id}.{uuid.uuid4()}.part").touch()
    (tmp_path / f"{uuid.uuid4()}.0123456789abcdef.raw").touch()
    assert cache.drafts() == [image_id]
    assert ImageCache(tmp_path, 62002, 1 << 30).drafts() == []
