"""What a new cloud needs to be administered; run at every start, it adds what is missing and nothing more."""

from typing import Any

from msgspec import structs

from pileus.core.config import Identity
from pileus.core.ids import derived_id
from pileus.db.connect import Tx
from pileus.db.rows import Table
from pileus.identity.passwords import keep_hash, passwords, stored_hash
from pileus.identity.region import REGIONS, Region
from pileus.identity.registered_limit import REGISTERED_LIMITS, RegisteredLimit
from pileus.identity.rows import (
    ASSIGNMENTS,
    DEFAULT_DOMAIN,
    ENDPOINTS,
    IMPLIED_ROLES,
    PROJECTS,
    ROLES,
    SERVICES,
    USERS,
    Assignment,
    Endpoint,
    ImpliedRole,
    Interface,
    Project,
    Role,
    Service,
    User,
)

IMPLICATIONS = (("admin", "manager"), ("manager", "member"), ("member", "reader"))
# "service" is for programs that speak for users; the two others are asked for by object store and key manager.
ROLE_NAMES = ("reader", "member", "manager", "admin", "service", "ResellerAdmin", "creator")
CATALOG = (  # service type, name, path below the public URL
    ("identity", "keystone", "/identity"),
    ("compute", "nova", "/compute/v2.1"),
    ("image", "glance", "/image"),
    ("network", "neutron", "/networking"),
    ("block-storage", "cinder", "/volume/v3"),
    ("volumev3", "cinderv3", "/volume/v3"),  # what clients older than 2024 ask for
    ("placement", "placement", "/placement"),
)
INTERFACES: tuple[Interface, ...] = ("public", "internal", "admin")
# What services limit by unified limits; registered as unlimited until the operator sets a default.
LIMITED = (
    ("image", ("image_size_total", "image_stage_total", "image_count_total", "image_count_uploading")),
)  # fmt: skip


def bootstrap(
    tx: Tx, *, admin_password: str, public_url: str, region: str, now: float, rules: Identity | None = None
) -> None:
    """Domain Default, project, user and roles of the administrator, region, services and endpoints.

    `rules` say how the password is hashed.  Safe to repeat: a changed admin password stays, endpoints follow
    `public_url`.
    """
    if PROJECTS.get(tx, id=DEFAULT_DOMAIN) is None:
        PROJECTS.insert(
            tx, Project(id=DEFAULT_DOMAIN, name="Default", domain_id=None, parent_id=None, is_domain=True,
                        description="The default domain")
        )  # fmt: skip
    roles = {name: _role(tx, name) for name in ROLE_NAMES}
    for prior, implied in IMPLICATIONS:
        pair = {"prior_role_id": roles[prior], "implied_role_id": roles[implied]}
        if IMPLIED_ROLES.get(tx, **pair) is None:
            IMPLIED_ROLES.insert(tx, ImpliedRole(**pair))
    _administrator(tx, roles["admin"], admin_password, rules or Identity())
    if REGIONS.get(tx, id=region) is None:
        REGIONS.insert(tx, Region(id=region))
    for type_, name, path in CATALOG:
        _service(tx, type_, name, public_url.rstrip("/") + path, region)
    for type_, resources in LIMITED:
        for resource in resources:
            _register_limit(tx, _hex_id("service", type_), resource, region)


def _hex_id(*parts: str) -> str:
    """The same id at every start, and the same on every new cloud."""
    return derived_id("bootstrap", *parts).replace("-", "")


def _role(tx: Tx, name: str) -> str:
    """The id of a role of this name, else of the one that bootstrap made under it; made if it is missing."""
    made = Role(id=_hex_id("role", name), name=name)
    found = ROLES.get(tx, name=name, domain_id=None) or ROLES.get(tx, id=made.id)
    return (found or ROLES.insert(tx, made)).id


def restore_names(tx: Tx) -> None:
    """Call the administrator's user, project and role admin again where they were given other names, and it is free."""
    places: tuple[tuple[Table[Any], str, str | None], ...] = (
        (USERS, "user", DEFAULT_DOMAIN), (PROJECTS, "project", DEFAULT_DOMAIN), (ROLES, "role", None),
    )  # fmt: skip
    for table, kind, domain_id in places:
        if table.get(tx, name="admin", domain_id=domain_id) is None:
            table.update(tx, {"name": "admin"}, id=_hex_id(kind, "admin"))


def _administrator(tx: Tx, role_id: str, password: str, rules: Identity) -> None:
    """User admin with the role admin on project admin, on the domain and on the system."""
    known = PROJECTS.get(tx, name="admin", domain_id=DEFAULT_DOMAIN) or PROJECTS.get(tx, id=_hex_id("project", "admin"))
    project = known or PROJECTS.insert(
        tx, Project(id=_hex_id("project", "admin"), name="admin", domain_id=DEFAULT_DOMAIN, parent_id=DEFAULT_DOMAIN,
                    description="The administrator's own project")
    )  # fmt: skip
    user = USERS.get(tx, name="admin", domain_id=DEFAULT_DOMAIN) or USERS.get(tx, id=_hex_id("user", "admin"))
    if user is not None:
        return  # the administrator may have taken rights from this user, which must stay so
    user = USERS.insert(tx, User(id=_hex_id("user", "admin"), name="admin", domain_id=DEFAULT_DOMAIN))
    if not stored_hash(tx, user.id):
        keep_hash(tx, user.id, passwords(rules).hash_now(password))
    for target in (project.id, DEFAULT_DOMAIN, None):
        ASSIGNMENTS.insert(tx, Assignment(role_id=role_id, user_id=user.id, target_id=target))


def _service(tx: Tx, type_: str, name: str, url: str, region: str) -> None:
    """A service with its three endpoints; those that bootstrap made follow the URL."""
    service_id = _hex_id("service", type_)
    if SERVICES.get(tx, id=service_id) is None:
        SERVICES.insert(tx, Service(id=service_id, type=type_, name=name))
    for interface in INTERFACES:
        wanted = Endpoint(
            id=_hex_id("endpoint", region, type_, interface), service_id=service_id, region_id=region,
            interface=interface, url=url,
        )  # fmt: skip
        found = ENDPOINTS.get(tx, id=wanted.id)
        if found is None:
            ENDPOINTS.insert(tx, wanted)
        elif found.url != url:
            ENDPOINTS.save(tx, structs.replace(found, url=url), ("url",))


def _register_limit(tx: Tx, service_id: str, resource: str, region: str) -> None:
    if REGISTERED_LIMITS.get(tx, service_id=service_id, resource_name=resource) is None:
        limit = RegisteredLimit(
            id=_hex_id("limit", service_id, resource), service_id=service_id, region_id=region, resource_name=resource,
            default_limit=-1,
        )  # fmt: skip
        REGISTERED_LIMITS.insert(tx, limit)
