"""The console URL opens the guest's screen in a real browser; typing reaches the guest; nobody else gets in."""

from collections.abc import Iterator
from pathlib import Path

import browser
import pytest
from browser import Browser
from machine import Machine, eventually
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

TYPED = "mwmwmwmw"
# Of the picture that noVNC drew: how many pixels are lit, and how many colours there are.
PICTURE = """(() => {
  const canvas = document.querySelector('#screen canvas');
  if (!canvas || !canvas.width) return [0, 0];
  const words = new Uint32Array(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.buffer);
  let lit = 0;
  for (const word of words) if (word & 0xffffff) lit++;
  return [lit, new Set(words).size];
})()"""
CORNER = "(({x, y}) => [x, y])(document.querySelector('#screen canvas').getBoundingClientRect())"


def console_url(cloud: Machine) -> str:
    return str(cloud.openstack("console", "url", "show", "--novnc", "first-server")["url"])


def socket_url(cloud: Machine, url: str) -> str:
    return f"ws://127.0.0.1:{cloud.port}/?token={url.rpartition('%3D')[2]}"


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Browser]:
    if reason := browser.missing():
        pytest.skip(reason)
    found = Browser(tmp_path)
    yield found
    found.close()


def test_a_person_sees_the_screen_and_types(cloud: Machine, tab: Browser, tmp_path: Path) -> None:
    tab.open(console_url(cloud))
    status = "document.getElementById('status')?.textContent"
    assert eventually(lambda: str(tab.evaluate(status)).startswith("Connected"), 60), tab.evaluate(status)
    assert eventually(lambda: tab.evaluate(PICTURE)[0] > 500, 60), "the screen stayed dark"
    lit, colours = tab.evaluate(PICTURE)
    assert colours >= 2
    keep(tab, tmp_path / "before.png")
    x, y = tab.evaluate(CORNER)
    tab.click(x + 50, y + 50)
    for letter in TYPED:
        tab.press(letter)
    wanted = lit + 20 * len(TYPED)  # an m or a w of the text screen is more than 20 dots, a blinking cursor 16 in all
    assert eventually(lambda: tab.evaluate(PICTURE)[0] > wanted, 30), "what was typed is not on the screen"
    keep(tab, tmp_path / "after.png")


def keep(tab: Browser, path: Path) -> None:
    """A picture for whoever looks into a failure."""
    tab.screenshot(path)
    assert path.stat().st_size > 2000


def test_a_foreign_page_gets_no_screen_and_the_own_one_does(cloud: Machine) -> None:
    address = socket_url(cloud, console_url(cloud))
    for foreign in ("https://evil.example", "null", f"http://127.0.0.1:{cloud.port}.evil.example"):
        with pytest.raises(InvalidStatus):
            connect(address, origin=foreign)
    with connect(address, origin=f"http://127.0.0.1:{cloud.port}", subprotocols=["binary"]) as screen:
        assert screen.recv(timeout=10).startswith(b"RFB 003.008")


def test_the_serial_line_opens_by_a_token_of_its_own(cloud: Machine) -> None:
    url = str(cloud.openstack("console", "url", "show", "--serial", "first-server")["url"])
    with connect(url, subprotocols=["binary"]) as line:
        line.send(b"\n")
        said = b""
        while b"login:" not in said:
            said += bytes(line.recv(timeout=20))
    with pytest.raises(InvalidStatus):
        connect(url.replace("/serial", "/"))


def test_a_deleted_server_shows_nothing(cloud: Machine) -> None:
    address = socket_url(cloud, console_url(cloud))
    with connect(address) as screen:
        assert screen.recv(timeout=10)
        cloud.tell("server", "delete", "--wait", "first-server")
        with pytest.raises(ConnectionClosed):
            screen.recv(timeout=30)
    with pytest.raises(InvalidStatus):
        connect(address)
