"""A real OpenLDAP server from Debian's package, as a plain process on loopback with a folder of its own."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ldap3 import MODIFY_ADD, MODIFY_DELETE, MODIFY_REPLACE, NONE, Connection, Server

from postgres import free_port

SUFFIX = "dc=example,dc=org"
PEOPLE, TEAMS = f"ou=people,{SUFFIX}", f"ou=teams,{SUFFIX}"
MANAGER, MANAGER_PASSWORD = f"cn=manager,{SUFFIX}", "manages it all"
READER, READER_PASSWORD = f"cn=reader,{SUFFIX}", "only reads"
PASSWORD = "open sesame"
_CONFIG = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
pidfile {folder}/slapd.pid
modulepath /usr/lib/ldap
moduleload back_mdb
sizelimit 100
{tls}
database mdb
maxsize 10485760
suffix "{suffix}"
rootdn "{manager}"
rootpw "{password}"
directory {folder}/data
dbnosync
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="{reader}" read by anonymous auth by * none
"""


class Slapd:
    """The server, with a tree of people and teams; `stop` and `start` keep what it holds."""

    def __init__(self, folder: Path, *, certificate: Mapping[str, Path] | None = None):
        self.folder, self.port, self.tls_port = folder, free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.addresses = [f"ldap://127.0.0.1:{self.port}"]
        tls = ""
        if certificate:
            self.addresses.append(f"ldaps://127.0.0.1:{self.tls_port}")
            tls = f"TLSCertificateFile {certificate['crt']}\nTLSCertificateKeyFile {certificate['key']}"
        (folder / "data").mkdir(parents=True)
        names = {"suffix": SUFFIX, "manager": MANAGER, "password": MANAGER_PASSWORD, "reader": READER}
        (folder / "slapd.conf").write_text(_CONFIG.format(folder=folder, tls=tls, **names))
        self.start()
        self.add(SUFFIX, ["dcObject", "organization"], o="example")
        for unit in (PEOPLE, TEAMS):
            self.add(unit, ["organizationalUnit"])
        self.add(READER, ["person"], sn="reader", userPassword=READER_PASSWORD)

    @property
    def url(self) -> str:
        return self.addresses[0]

    def start(self) -> None:
        """Start it and wait until it answers."""
        program = shutil.which("slapd", path=f"{os.environ['PATH']}:/usr/sbin")
        assert program, "Debian's package slapd is missing: see tests/packages.txt"
        command = [program, "-h", " ".join(self.addresses), "-f", str(self.folder / "slapd.conf"), "-d", "0"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        ends = time.monotonic() + 20
        while time.monotonic() < ends:
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self._process.poll() is None, "slapd ended at once"
            time.sleep(0.02)
        raise AssertionError("slapd does not answer")

    def stop(self) -> None:
        """End it: connections are refused."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def freeze(self) -> None:
        """It takes connections and says nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        state = Path(f"/proc/{self._process.pid}/stat")
        while state.read_text().rpartition(")")[2].split()[0] != "T":
            time.sleep(0.01)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    # what it holds

    def as_manager(self) -> Connection:
        connection = Connection(Server(self.url, get_info=NONE), MANAGER, MANAGER_PASSWORD, check_names=False)
        assert connection.bind(), connection.result
        return connection

    def add(self, place: str, classes: Sequence[str], **attributes: Any) -> str:
        with self.as_manager() as connection:
            assert connection.add(place, list(classes), attributes), connection.result
        return place

    def change(self, place: str, **attributes: Any) -> None:
        with self.as_manager() as connection:
            wanted = {name: [(MODIFY_REPLACE, listed(value))] for name, value in attributes.items()}
            assert connection.modify(place, wanted), connection.result

    def remove(self, place: str) -> None:
        with self.as_manager() as connection:
            assert connection.delete(place), connection.result

    def person(self, uid: str, name: str = "", *, password: str = PASSWORD, **more: Any) -> str:
        """A person whose log-in name is `name` (their uid, unless given); their place."""
        attributes = {"cn": name or uid, "sn": uid, "userPassword": password, **more}
        return self.add(f"uid={uid},{PEOPLE}", ["inetOrgPerson"], **attributes)

    def team(self, name: str, members: Iterable[str]) -> str:
        return self.add(f"cn={name},{TEAMS}", ["groupOfNames"], member=list(members), description=f"team {name}")

    def join(self, team: str, person: str) -> None:
        with self.as_manager() as connection:
            assert connection.modify(team, {"member": [(MODIFY_ADD, [person])]}), connection.result

    def leave(self, team: str, person: str) -> None:
        with self.as_manager() as connection:
            assert connection.modify(team, {"member": [(MODIFY_DELETE, [person])]}), connection.result

    def options(self, **more: Any) -> dict[str, Any]:
        """The group `ldap` of a domain whose users are these people."""
        return {
            "url": self.url, "user": READER, "password": READER_PASSWORD, "suffix": SUFFIX, "user_tree_dn": PEOPLE,
            "user_id_attribute": "uid", "user_name_attribute": "cn", "group_tree_dn": TEAMS,
            "group_name_attribute": "cn", "connection_timeout": 2, **more,
        }  # fmt: skip


def listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
