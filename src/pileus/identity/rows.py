"""The rows that every part of identity speaks of: projects and domains, users, groups, roles, the catalog."""

from typing import Any, Literal

from msgspec import Struct

from pileus.identity.watched import Watched

DEFAULT_DOMAIN = "default"
Interface = Literal["public", "internal", "admin"]


class Project(Struct, frozen=True, kw_only=True):
    """A project, or a domain: a domain is a project that is no part of another."""

    id: str
    name: str
    domain_id: str | None  # None: this is a domain
    parent_id: str | None  # the project or domain above; None: this is a domain
    is_domain: bool = False
    enabled: bool = True
    description: str = ""
    options: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    generation: int = 0  # raised when tokens on it must end


class User(Struct, frozen=True, kw_only=True):
    """A person or program that logs in."""

    id: str
    name: str
    domain_id: str
    enabled: bool = True
    default_project_id: str | None = None
    password_expires_at: float | None = None
    options: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    generation: int = 0  # raised when all tokens of this user must end


class Group(Struct, frozen=True, kw_only=True):
    """Users who are given roles together."""

    id: str
    name: str
    domain_id: str
    description: str = ""
    extra: dict[str, Any] = {}


class Membership(Struct, frozen=True, kw_only=True):
    """A user in a group; one that a federated log-in brought ends by itself."""

    user_id: str
    group_id: str
    expires_at: float | None = None
    idp_id: str | None = None  # the identity provider that said so


class Role(Struct, frozen=True, kw_only=True):
    """A name that policy rules ask for; a role of a domain only stands for the roles that it implies."""

    id: str
    name: str
    domain_id: str | None = None
    description: str | None = None
    options: dict[str, Any] = {}
    extra: dict[str, Any] = {}


class ImpliedRole(Struct, frozen=True, kw_only=True):
    """Who has the prior role has the implied one."""

    prior_role_id: str
    implied_role_id: str


class Assignment(Struct, frozen=True, kw_only=True):
    """A role for a user or group on a project, a domain or the system; inherited: on what lies below instead."""

    role_id: str
    user_id: str | None = None
    group_id: str | None = None
    target_id: str | None = None  # a project or domain; None: the system
    inherited: bool = False


class AccessRule(Struct, frozen=True, kw_only=True):
    """One request that an application credential may make: service type, method, path pattern."""

    id: str
    user_id: str
    service: str
    method: str
    path: str


class ApplicationCredential(Struct, frozen=True, kw_only=True):
    """A name and secret by which a program acts as a user on one project, with some of the user's roles."""

    id: str
    user_id: str
    project_id: str
    name: str
    description: str | None = None
    expires_at: float | None = None
    unrestricted: bool = False  # may make further credentials
    roles: list[str]  # ids; what the user has lost since is not given
    access_rules: list[str] | None = None  # ids; None: no restriction
    made_by: str | None = None  # the credential by which it was made, and with which it ends


class Trust(Struct, frozen=True, kw_only=True):
    """A trustor lets a trustee act on a project with some of the trustor's roles."""

    id: str
    trustor_user_id: str
    trustee_user_id: str
    project_id: str
    impersonation: bool  # the trustee's tokens bear the trustor's name
    roles: list[str]  # ids; all of them must be the trustor's still
    expires_at: float | None = None
    remaining_uses: int | None = None  # tokens that may still be made by it; None: any number
    redelegated_trust_id: str | None = None  # the trust by which this one was made
    redelegation_count: int = 0  # how often it may be passed on
    created_at: float
    extra: dict[str, Any] = {}


class AccessToken(Struct, frozen=True, kw_only=True):
    """A user lets a consumer act on a project with some of the user's roles (OAuth 1.0a)."""

    id: str
    consumer_id: str
    sealed_secret: str
    user_id: str
    project_id: str
    roles: list[str]
    expires_at: float


class Service(Struct, frozen=True, kw_only=True):
    """An entry of the catalog."""

    id: str
    type: str
    name: str = ""
    description: str = ""
    enabled: bool = True
    extra: dict[str, Any] = {}


class Endpoint(Struct, frozen=True, kw_only=True):
    """Where a service answers: one interface in one region."""

    id: str
    service_id: str
    region_id: str | None = None
    interface: Interface
    url: str
    enabled: bool = True
    extra: dict[str, Any] = {}


PROJECTS = Watched(Project, "projects")
USERS = Watched(User, "users")
GROUPS = Watched(Group, "user_groups")
MEMBERSHIPS = Watched(Membership, "memberships", ("user_id", "group_id"))
ROLES = Watched(Role, "roles")
IMPLIED_ROLES = Watched(ImpliedRole, "implied_roles", ("prior_role_id", "implied_role_id"))
ASSIGNMENTS = Watched(Assignment, "role_assignments", ("role_id", "user_id", "group_id", "target_id", "inherited"))
ACCESS_RULES = Watched(AccessRule, "access_rules")
APPLICATION_CREDENTIALS = Watched(ApplicationCredential, "application_credentials")
TRUSTS = Watched(Trust, "trusts")
ACCESS_TOKENS = Watched(AccessToken, "oauth_access_tokens")
SERVICES = Watched(Service, "services")
ENDPOINTS = Watched(Endpoint, "endpoints")
