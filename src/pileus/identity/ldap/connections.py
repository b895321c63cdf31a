"""Connections to a directory: a few are kept open, each used by one thread at a time, and every wait has an end."""

import contextlib
import logging
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ldap3 import ANONYMOUS, NONE, SIMPLE, Connection, Server, Tls
from ldap3.core.exceptions import LDAPExceptionError

from pileus.identity.drivers import Away, Silent
from pileus.identity.ldap.options import LdapOptions

T = TypeVar("T")
log = logging.getLogger("pileus.identity.ldap")
SUCCESS = 0
BUSY = (51, 52)  # busy, unavailable (RFC 4511 §4.1.9); what else is no success is a refusal of this log-in
NO_ANSWER = "it does not answer"


class Connections:
    """The connections of one process to one directory."""

    def __init__(self, options: LdapOptions):
        self.options = options
        self._idle: list[Connection] = []
        self._lock = threading.Lock()

    def use(self, work: Callable[[Connection], T]) -> T:
        """Work on a connection of the cloud's own; one that was kept may have died, and is replaced once."""
        with self._lock:
            kept = self._idle.pop() if self._idle else None
        with self._failing():
            if kept is not None:
                try:
                    return self._on(kept, work)
                except (LDAPExceptionError, OSError) as error:
                    if "timed out" in str(error):  # it lives, and would make us wait as long again
                        raise
            return self._on(self._own(), work)

    def _on(self, connection: Connection, work: Callable[[Connection], T]) -> T:
        try:
            result = work(connection)
        except Away:
            self._keep(connection)
            raise
        except BaseException:
            end(connection)
            raise
        self._keep(connection)
        return result

    def _keep(self, connection: Connection) -> None:
        with self._lock:
            if len(self._idle) < self.options.pool_size:
                self._idle.append(connection)
                return
        end(connection)

    def _own(self) -> Connection:
        """A connection as the cloud's account in the directory; raises Away where that is refused."""
        user, password = self.options.user, self.options.password
        if user and not password:
            raise Away("ldap.user is configured without ldap.password")
        connection = self._opened(user or "", password or "")
        if self._bound(connection) == SUCCESS:
            return connection
        reason = connection.result["description"]
        end(connection)
        log.warning("%s refuses the cloud's own account: %s", self.options.url, reason)
        raise Silent("it refuses the cloud's own account")

    def accepts(self, place: str, password: str) -> bool:
        """Whether a password is right: on a connection of its own, which ends.  An empty one is never tried.

        A directory may take an empty password for no log-in at all, and call that a success (RFC 4513 §5.1.2).
        """
        if not place or not password or not sendable(password):
            return False
        with self._failing():
            connection = self._opened(place, password)
            try:
                code = self._bound(connection)
            finally:
                end(connection)
        if code in BUSY:
            raise Away("it cannot check passwords now")
        if code != SUCCESS:
            log.info("%s refuses a log-in: result %d", self.options.url, code)
        return code == SUCCESS

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        """Whatever goes wrong on the way is Away; the log has it in full."""
        try:
            yield
        except Away:
            raise
        except (LDAPExceptionError, OSError) as error:
            log.warning("%s: %s: %s", self.options.url, type(error).__name__, error)
            raise Silent(NO_ANSWER) from None
        except Exception as error:  # what a broken or hostile server sends can trip the decoder anywhere
            log.exception("%s: an answer that cannot be read", self.options.url)
            raise Away("its answers cannot be read") from error

    def _bound(self, connection: Connection) -> int:
        connection.bind()
        return int(connection.result["result"])

    def _opened(self, user: str, password: str) -> Connection:
        """A connection to the first address that answers, under TLS where that is wanted, not yet bound.

        The password goes as bytes, since ldap3 normalizes text, which not all who set passwords do.
        """
        failure: Exception = Away("ldap.url names no ldap:// or ldaps:// address")
        for server in self._servers():
            connection = Connection(
                server, user or None, password.encode() or None, authentication=SIMPLE if user else ANONYMOUS,
                receive_timeout=self.options.seconds, auto_referrals=bool(self.options.chase_referrals),
                check_names=False, read_only=True, raise_exceptions=False, auto_bind=False,
            )  # fmt: skip
            try:
                connection.open(read_server_info=False)
                if self.options.use_tls and not server.ssl:
                    connection.start_tls(read_server_info=False)
                return connection
            except (LDAPExceptionError, OSError) as error:
                end(connection)
                failure = error
        raise failure

    def _servers(self) -> list[Server]:
        found = []
        for address in self.options.url.split(","):
            parts = urlsplit(address.strip())
            if parts.scheme in ("ldap", "ldaps") and parts.hostname:
                found.append(self._server(parts.hostname, parts.port, secure=parts.scheme == "ldaps"))
        return found

    def _server(self, host: str, port: int | None, *, secure: bool) -> Server:
        options = self.options
        demand = options.tls_req_cert == "demand"
        tls = Tls(
            validate=ssl.CERT_REQUIRED if demand else ssl.CERT_NONE, ca_certs_file=options.tls_cacertfile,
            ca_certs_path=options.tls_cacertdir, sni=host,
        )  # fmt: skip
        return Server(
            host, port=port or (636 if secure else 389), use_ssl=secure, tls=tls, get_info=NONE,
            connect_timeout=options.seconds, allowed_referral_hosts=[("*", True)] if options.chase_referrals else None,
        )  # fmt: skip

    def close(self) -> None:
        """End all that are idle; those in use are ended by the garbage collector."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            end(connection)


def sendable(text: str) -> bool:
    """Whether a text can be written in UTF-8, as all text of LDAP is; JSON can hold some that cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def end(connection: Any) -> None:
    """Close a connection, whatever state it is in."""
    with contextlib.suppress(LDAPExceptionError, OSError):
        connection.unbind()
