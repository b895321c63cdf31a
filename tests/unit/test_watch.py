"""A node's agent looks after what dies by itself, whatever else fails."""

import threading
import time
from pathlib import Path

import pytest

from pileus.drivers.block.fake import FakeBlock
from pileus.drivers.hypervisor.fake import FakeHypervisor
from pileus.drivers.switch.fake import FakeSwitch
from pileus.node import agent as agents
from pileus.node.agent import Agent, Controllers, Reporter, Watch
from pileus.node.fencing import Fence


class Ailing(FakeSwitch):
    """A switch whose first look-after fails."""

    looks = 0

    def look_after(self) -> None:
        self.looks += 1
        if self.looks == 1:
            raise OSError("out of processes")


def test_networks_are_looked_after_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "WATCH_SECONDS", 0.01)
    switch = Ailing()
    agent = Agent(FakeHypervisor(), switch, FakeBlock(), Fence(tmp_path / "epochs"))
    reporter = Reporter(agent, Controllers("unix:///nowhere"), {}, 1.0)
    watching = threading.Thread(target=Watch(agent, reporter).run)
    watching.start()
    ends = time.monotonic() + 10
    while switch.looks < 3 and time.monotonic() < ends:
        time.sleep(0.01)
    reporter.stopping = True
    watching.join(10)
    assert switch.looks >= 3
