"""Settings: one TOML file, every value with a default that makes a cloud on one machine."""

import os
import platform
import tomllib
from ipaddress import ip_network
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct, field

DEFAULT_FILE = Path("/etc/pileus/pileus.toml")


class Pool(Struct, frozen=True, kw_only=True):
    """A place for volumes: a folder and the name that volume types choose it by."""

    path: str = ""  # "": a folder of the pool's name in the state folder
    backend: str
    capabilities: dict[str, str] = {}  # what else is to be said of it: extra specs of volume types may ask for it


class External(Struct, frozen=True, kw_only=True):
    """The public network: floating addresses come from it, `gateway` is the node's own address on it."""

    cidr: str = "172.24.4.0/24"
    gateway: str = "172.24.4.1"


class Underlay(Struct, frozen=True, kw_only=True):
    """The device that carries tunnels between nodes; the node takes it into its own namespace while it is up."""

    device: str
    cidr: str  # this node's tunnel endpoint with its prefix: "192.0.2.1/24"


class Identity(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What identity asks of passwords and log-ins; 0 turns a rule off, as upstream's [security_compliance] does."""

    lockout_failures: int = 0  # wrong passwords in a row after which a user is locked out
    lockout_seconds: float = 1800.0
    expires_days: float = 0  # life of a password
    minimum_age_days: float = 0  # before users may change a password again
    unique_last: int = 0  # the newest passwords of a user, the present one included, that may not come again
    change_upon_first_use: bool = False  # a password that an administrator set must be changed by its user
    inactive_days: float = 0  # users who were not seen for so long are locked out
    pattern: str = ""  # a regular expression that a whole password must fit
    pattern_meaning: str = ""  # in words, for those who are refused
    hash_memory_kib: int = 19_456  # argon2id, after OWASP's Password Storage Cheat Sheet
    hash_passes: int = 2
    redelegations: int = 3  # how deep trusts may be passed on
    receipt_seconds: float = 300.0  # time to give the further factors of a log-in
    list_limit: int = 0  # rows that a list without `limit` shows at most, then it says "truncated"; 0: all
    enforcement_model: Literal["flat", "strict_two_level"] = "flat"  # how limits of projects and domains go together
    allow_expired_window: float = 172_800.0  # seconds for which services may still use a user's token that expired
    directory_seconds: float = 60.0  # after which what is known of a user in a directory is read again
    trusted_user_header: str = ""  # a header in which a proxy before us says who it let in (REMOTE_USER); "": none
    trusted_certificate_header: str = ""  # the same for the client's certificate (URL-encoded PEM); "": none
    certificate_mapping: str = ""  # makes users of the names in certificates that a proxy has verified; "": nobody's
    trusted_proxies: tuple[str, ...] = ()  # addresses and networks of those who are believed in these two headers

    def __post_init__(self) -> None:
        for proxy in self.trusted_proxies:
            ip_network(proxy)  # ValueError says what is wrong with it


class SamlProvider(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An identity provider that speaks SAML 2.0."""

    metadata: str  # file of its metadata; whose keys stand there may say who anybody is whom its mapping allows
    entity_id: str = ""  # the entity in the file; "": there is one only
    unsolicited: bool = False  # whether it may send users whom we did not send to it: another cloud's K2K does


class Saml(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """SAML 2.0: this cloud as identity provider of others (K2K), and those whose word it takes itself."""

    entity_id: str = ""  # of this cloud as identity provider; "": URL/identity/v3/OS-FEDERATION/saml2/idp
    assertion_seconds: float = 300.0  # life of an assertion that this cloud makes
    relay_state_prefix: str = "ss:mem:"  # of service providers that have none of their own
    audiences: dict[str, str] = {}  # service provider → its entity id, where that is not its sp_url
    providers: dict[str, SamlProvider] = {}  # by id of the identity provider


class OidcProvider(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An identity provider that speaks OpenID Connect; this cloud is its client."""

    issuer: str  # as the provider writes itself: its document is below it
    discovery_url: str = ""  # of the document, where it is elsewhere
    client_id: str
    client_secret_file: str = ""  # "": a public client
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    audiences: tuple[str, ...] = ()  # further audiences, or clients, whose tokens are taken
    hosts: tuple[str, ...] = ()  # further hosts (port 443) on which the provider's addresses may be
    userinfo: bool = True  # whether the provider is asked what it knows of a user
    ca_file: str = ""  # authorities that its certificate is checked against; "": the machine's


class Federation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How users of identity providers elsewhere log in."""

    authorization_ttl_minutes: int = 0  # that mapped group memberships last, where a provider says nothing; 0: a token
    trusted_dashboards: tuple[str, ...] = ()  # addresses that may get a token by way of the browser (websso)
    saml: Saml = Saml()
    oidc: dict[str, OidcProvider] = {}  # by id of the identity provider


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that an operator may choose."""

    state: str = "/var/lib/pileus"  # folder of all state
    listen: str = "127.0.0.1"
    port: int = 5000
    public_url: str = ""  # "": http://listen:port
    database: str = ""  # "": SQLite in the state folder
    region: str = "RegionOne"
    zone: str = "nova"
    name: str = ""  # of this node, unique in the cloud; "": the machine's host name
    roles: tuple[str, ...] = ("compute", "network", "storage")  # what this node does
    controller_address: str = ""  # host:port where controllers answer nodes that joined; "": this machine alone
    agent_address: str = ""  # host:port where this node's agent answers controllers, once it joined
    underlay: Underlay | None = None  # none: networks do not leave this machine
    namespace: str = "pileus"  # network namespace of this node's bridges, taps and public network
    external: External = External()
    accelerator: str = "auto"  # auto | kvm | tcg
    hypervisor: str = "qemu"  # qemu | fake
    switch: str = "linux"  # linux | fake
    block: str = "file"  # file | fake
    pools: dict[str, Pool] = field(
        default_factory=lambda: {"file": Pool(backend="file"), "second": Pool(backend="second")}
    )
    image_size_cap: int = 1 << 40  # bytes that an image may have
    service_uid: int = 62001  # API and worker run as this user and group
    guest_uid: int = 62002  # QEMU runs as this user and group
    image_limit_gib: int = 1024  # the largest disk that an image may unfold to
    identity: Identity = Identity()
    federation: Federation = Federation()
    policy: str = "/etc/pileus"  # folder of policy.yaml and policy.d, the operator's own rules
    workers: int = 8  # threads that step resources
    lease_seconds: float = 60.0  # after which the work of a worker that is silent is taken over
    report_seconds: float = 15.0
    log_level: str = "INFO"

    @property
    def folder(self) -> Path:
        return Path(self.state)

    @property
    def policy_folder(self) -> Path:
        return Path(self.policy)

    @property
    def url(self) -> str:
        """Where clients reach the API."""
        return self.public_url.rstrip("/") or f"http://{self.listen}:{self.port}"

    @property
    def node_name(self) -> str:
        """The name of this node in the API."""
        return self.name or platform.node()

    @property
    def endpoint(self) -> str:
        """Where tunnels to this node end; "" where there are none."""
        return self.underlay.cidr.partition("/")[0] if self.underlay else ""

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite://{self.folder}/db/pileus.db"

    @property
    def agent_socket(self) -> Path:
        return self.folder / "run" / "agent.sock"

    @property
    def controller_socket(self) -> Path:
        return self.folder / "run" / "controller.sock"


def host_and_port(address: str) -> tuple[str, int]:
    """The parts of host:port or [IPv6]:port; raises ValueError."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"{address!r}: expected host:port")
    return host.strip("[]"), int(port)


def load_config(path: Path | None = None) -> Config:
    """Read the settings file (PILEUS_CONFIG, else /etc/pileus/pileus.toml if it is there).

    PILEUS_STATE and PILEUS_PORT win over the file, for a second cloud beside the first.
    Raises msgspec.ValidationError naming the wrong setting.
    """
    chosen = path or Path(os.environ.get("PILEUS_CONFIG", DEFAULT_FILE))
    given = tomllib.loads(chosen.read_text()) if chosen.exists() or path else {}
    if state := os.environ.get("PILEUS_STATE"):
        given["state"] = state
    if port := os.environ.get("PILEUS_PORT"):
        given["port"] = int(port)
    return msgspec.convert(given, Config)
