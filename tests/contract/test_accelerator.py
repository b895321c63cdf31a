"""KVM is chosen only where a probe guest really ran: the probe tells a guest that ran from one that did not."""

import os
from pathlib import Path

import pytest

from pileus.drivers.hypervisor.qemu import accelerator

UNDER_TCG = tuple({"kvm": "tcg", "host": "max"}.get(word, word) for word in accelerator._PROBE)

pytestmark = pytest.mark.root


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine with a device of its own that is there, and a probe that was never asked."""
    device = tmp_path / "kvm"
    device.touch()
    monkeypatch.setattr(accelerator, "DEVICE", device)
    monkeypatch.setattr(accelerator, "_PATIENCE", 3.0)
    accelerator.probe_kvm.cache_clear()


def test_a_guest_that_runs_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "_PROBE", UNDER_TCG)
    assert accelerator.probe_kvm() is True


def test_a_guest_that_gets_nowhere_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "_PROBE", (*UNDER_TCG, "-S"))
    assert accelerator.probe_kvm() is False


def test_without_the_device_nothing_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "DEVICE", Path("/nonexistent"))
    monkeypatch.setattr(accelerator, "_PROBE", ("false",))
    assert accelerator.probe_kvm() is False


def test_the_choice_is_noted_and_remembered_until_the_device_changes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    note = tmp_path / "node" / "accelerator"
    monkeypatch.setattr(accelerator, "_PROBE", UNDER_TCG)
    assert accelerator.choose("auto", 62002, note) == "kvm"
    assert note.read_text() == "kvm\n"
    monkeypatch.setattr(accelerator, "_PROBE", ("false",))
    accelerator.probe_kvm.cache_clear()
    assert accelerator.choose("auto", 62002, note) == "kvm"
    accelerator.DEVICE.chmod(0o600)
    assert accelerator.choose("auto", 62002, note) == "tcg"
    assert accelerator.choose("tcg", 62002, note) == "tcg"
    with pytest.raises(ValueError, match="KVM"):
        accelerator.choose("kvm", 62002, note)


def test_guests_get_the_group_that_the_device_asks_for() -> None:
    accelerator.DEVICE.chmod(0o660)
    os.chown(accelerator.DEVICE, 0, 4242)
    assert accelerator.kvm_groups() == [4242]
    accelerator.DEVICE.chmod(0o666)
    assert accelerator.kvm_groups() == []
