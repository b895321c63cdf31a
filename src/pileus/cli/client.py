"""A small client of the public API for our own commands (the demo, ssh by name)."""

import http.client
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from pileus.cli.up import passwords
from pileus.core.config import Config


class ApiError(Exception):
    """The API refused."""


class Client:
    """One user in one project."""

    def __init__(self, url: str, user: str, password: str, project: str):
        self.url, self.token = urlsplit(url), ""
        scope = {"project": {"name": project, "domain": {"id": "default"}}}
        who = {"name": user, "password": password, "domain": {"id": "default"}}
        body = {"auth": {"identity": {"methods": ["password"], "password": {"user": who}}, "scope": scope}}
        status, headers, raw = self._send("POST", "/identity/v3/auth/tokens", json.dumps(body).encode())
        if status != 201:
            raise ApiError(f"cannot log in as {user}: {raw.decode(errors='replace')[:300]}")
        self.token = headers["x-subject-token"]
        self.project_id: str = json.loads(raw)["token"]["project"]["id"]

    @classmethod
    def of(cls, config: Config, user: str) -> "Client":
        """Admin or demo of this machine's cloud, each in the project of the same name."""
        return cls(config.url, user, passwords(config)[user], user)

    def _send(
        self, method: str, path: str, body: bytes | Iterable[bytes] | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.url.hostname or "", self.url.port or 80, timeout=600)
        head = {"content-type": "application/json", "x-auth-token": self.token, **(headers or {})}
        try:
            connection.request(method, (self.url.path.rstrip("/") + path), body, head)
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        except OSError as error:
            raise ApiError(f"{self.url.geturl()} does not answer ({error}): `pileus up` starts the cloud") from None
        finally:
            connection.close()

    def __call__(self, method: str, path: str, body: Any = None, version: str = "") -> Any:
        """One request; its decoded answer.  Raises ApiError with the API's own words."""
        headers = {"openstack-api-version": version} if version else {}
        status, _, raw = self._send(method, path, None if body is None else json.dumps(body).encode(), headers)
        if status >= 400:
            raise ApiError(f"{method} {path}: {status} {raw.decode(errors='replace')[:500]}")
        return json.loads(raw) if raw else None

    def find(self, path: str, plural: str, name: str) -> dict[str, Any] | None:
        """The resource of this name in a list, or None."""
        found = self("GET", f"{path}?name={quote(name)}")[plural]
        return next((r for r in found if r.get("name") == name), None)

    def ensure(self, path: str, key: str, name: str, **fields: Any) -> dict[str, Any]:
        """The resource of this name, made unless it is there."""
        found = self.find(path, key + "s", name)
        made: dict[str, Any] = found or self("POST", path, {key: {"name": name, **fields}})[key]
        return made

    def upload(self, image_id: str, path: Path) -> None:
        """Send an image's bytes."""
        with path.open("rb") as file:
            chunks = iter(lambda: file.read(1 << 18), b"")
            head = {"content-type": "application/octet-stream", "content-length": str(path.stat().st_size)}
            status, _, raw = self._send("PUT", f"/image/v2/images/{image_id}/file", chunks, head)
        if status != 204:
            raise ApiError(f"upload: {status} {raw.decode(errors='replace')[:500]}")

    def floating_address(self, server: str) -> str:
        """The first floating address of the server of this name; raises ApiError."""
        found = self.find("/compute/v2.1/servers/detail", "servers", server)
        for addresses in (found or {}).get("addresses", {}).values():
            for address in addresses:
                if address.get("OS-EXT-IPS:type") == "floating":
                    return str(address["addr"])
        raise ApiError(f"there is no server {server!r} with a floating address")
