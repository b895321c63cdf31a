"""What we ship is one wheel: it holds all that runs, installs by pip and by pipx, and brings up a cloud."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from machine import Machine, eventually

ROOT = Path(__file__).parents[2]
PYTHON = "/usr/bin/python3"  # what people have: not the virtual environment of the tests


def run(*words: object, **environment: str) -> str:
    """A program as in a shell that knows nothing of this checkout; what it printed."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV", "PILEUS_"))}
    argv = [str(word) for word in words]
    done = subprocess.run(argv, env={**kept, **environment}, cwd="/", capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{' '.join(argv)}: status {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `make wheel` does, from a copy of what goes in."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", source)
    return next((source / "dist").glob("pileus-*.whl"))


def with_pip(wheel: Path, folder: Path) -> Path:
    """A virtual environment with the pinned packages."""
    run(PYTHON, "-m", "venv", folder / "venv")
    install = [folder / "venv/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run(*install, "--require-hashes", "-r", ROOT / "requirements/run.txt")
    run(*install, "--no-deps", wheel)
    return folder / "venv/bin/pileus"


def with_pipx(wheel: Path, folder: Path) -> Path:
    """A command of one's own, in a home that nobody else may read."""
    if shutil.which("pipx") is None:
        pytest.skip("not installed: pipx (tests/packages.txt)")
    run("pipx", "install", wheel, HOME=str(folder), PIPX_HOME=str(folder / "pipx"), PIPX_BIN_DIR=str(folder / "bin"))
    return folder / "bin/pileus"


@pytest.fixture(scope="module", params=[with_pip, pytest.param(with_pipx, marks=pytest.mark.slow)])
def program(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The installed command, below a folder that only root reads, as /root is."""
    folder = tmp_path_factory.mktemp("home")
    folder.chmod(0o700)
    install: Callable[[Path, Path], Path] = request.param
    return install(wheel, folder)


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A machine whose cloud boots nothing."""
    found = Machine(f"pw{os.getpid()}", hypervisor="fake", switch="fake", block="fake")
    yield found
    found.close()


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    source = ROOT / "src/pileus"
    wanted = {
        str(p.relative_to(ROOT / "src")) for p in source.rglob("*") if p.is_file() and "__pycache__" not in p.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert found == wanted
    assert any(name.endswith(".sql") for name in found)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: API and worker run as a user of their own")
def test_what_was_installed_brings_up_a_cloud(program: Path, machine: Machine) -> None:
    def pileus(*words: str) -> str:
        return run(program, *words, PILEUS_CONFIG=str(machine.config))

    assert pileus("--version").startswith("pileus ")
    assert "all programs are installed" in pileus("doctor")
    assert "answers at" in pileus("up")
    status = json.loads(pileus("status", "--json"))
    assert status["ready"] and status["version"] == pileus("--version").split()[1]
    for process in status["processes"]:
        assert str(program.parent.parent) in Path(f"/proc/{process['pid']}/cmdline").read_text()
    boot_something(machine)
    assert pileus("verify") == ""
    assert "is down" in pileus("down")
    assert machine.traces() == []


def boot_something(machine: Machine) -> None:
    """A day of the whole program with the real SDK; parts that are imported late must be there too."""
    admin = machine.sdk("pileus-admin")
    image = admin.create_image("nothing", data=b"\0" * 1024, disk_format="raw", container_format="bare", wait=True)
    flavor = admin.compute.create_flavor(name="small", ram=64, vcpus=1, disk=1)
    network = admin.network.create_network(name="net")
    admin.network.create_subnet(network_id=network.id, ip_version=4, cidr="10.5.0.0/24")
    volume = admin.block_storage.create_volume(size=1, name="kept")
    assert eventually(lambda: admin.block_storage.get_volume(volume).status == "available", 30)
    server = admin.create_server("one", image=image, flavor=flavor, network=network.id, wait=True, auto_ip=False)
    assert server.status == "ACTIVE"
    admin.delete_server("one", wait=True)
