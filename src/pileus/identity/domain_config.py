"""Configuration of domains: where the users of a domain come from, option by option, sealed in the database.

Source: Identity API reference, "Domain configuration".
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct, structs

from pileus.core.context import Context
from pileus.core.errors import BadRequest, Forbidden, NotFound
from pileus.core.op import Reply
from pileus.core.reconcile import forget, poke
from pileus.core.schema import Schema
from pileus.db.connect import Tx
from pileus.identity.domain import load_domain
from pileus.identity.domain_options import DOMAIN_OPTIONS, DomainOption
from pileus.identity.ldap.options import LdapOptions, read_options
from pileus.identity.mirror import DIRECTORY, lose_all, make_due
from pileus.identity.rows import DEFAULT_DOMAIN, Project
from pileus.identity.sealing import seal, unseal
from pileus.identity.service import ADMIN, IDENTITY, READER

# Options and their defaults, by upstream's names; what is None here has none.
OPTIONS: dict[str, dict[str, Any]] = {
    "identity": {"driver": "sql", "list_limit": None},
    "ldap": structs.asdict(LdapOptions()),
}
_HIDDEN = frozenset((("ldap", "password"),))  # stored, used, never shown
Config = dict[str, dict[str, Any]]
CONFIG: Schema = {
    "type": "object",
    "required": ["config"],
    "properties": {"config": {"type": "object", "maxProperties": 64}},
}


def config_of(ctx: Context, domain_id: str, *, hidden: bool = False) -> Config:
    """The options that a domain has of its own; `hidden`: passwords too, for the driver."""
    found: Config = {}
    for row in DOMAIN_OPTIONS.all(ctx.tx, domain_id=domain_id, order="group_name, option_name"):
        if hidden or (row.group_name, row.option_name) not in _HIDDEN:
            value = json.loads(unseal(ctx.settings.keys_folder, row.sealed_value))
            found.setdefault(row.group_name, {})[row.option_name] = value
    return found


def check_names(group: str, options: Iterable[str]) -> None:
    """Refuse a group and options that there are not."""
    if group not in OPTIONS:
        raise Forbidden(f"config: there is no group {group[:64]!r}; one of {', '.join(OPTIONS)}.")
    for option in options:
        if option not in OPTIONS[group]:
            raise Forbidden(f"config: there is no option {option[:64]!r} in the group {group}.")


def check_config(config: Mapping[str, Any]) -> None:
    """Refuse groups and options that there are not (403, as upstream), and values that they cannot have (400)."""
    if not config:
        raise Forbidden("config: it holds no options.")
    for group, options in config.items():
        check_names(group, options if isinstance(options, dict) else ())
        if not isinstance(options, dict) or not options:
            raise Forbidden(f"config: the group {group} must be an object with at least one option.")
        for option, value in options.items():
            if not isinstance(value, str | int | float | bool | None) or len(str(value)) > 4096:
                raise BadRequest(f"config: {group}.{option} must be a text, a number or a boolean.")
    check_values(config)


def check_values(config: Mapping[str, Any]) -> None:
    """Refuse values by which no directory could be asked; an unknown driver is the domain's fault once it is used."""
    identity = config.get("identity", {})
    if not isinstance(identity.get("driver", "sql"), str):
        raise BadRequest("config: identity.driver must be the name of a driver.")
    try:
        read_options(config.get("ldap", {}))
    except ValueError as error:
        raise BadRequest(f"config: ldap: {error}.") from None


def settle(ctx: Context, domain_id: str) -> None:
    """After a change: the directory is read anew at once; without one its users and groups are no longer there."""
    driver = DOMAIN_OPTIONS.get(ctx.tx, domain_id=domain_id, group_name="identity", option_name="driver")
    if driver is not None and json.loads(unseal(ctx.settings.keys_folder, driver.sealed_value)) == "ldap":
        make_due(ctx.tx, domain_id)
        poke(ctx.tx, DIRECTORY, domain_id, ctx.now)
    else:
        lose_all(ctx.tx, domain_id)
        forget(ctx.tx, DIRECTORY, domain_id)


def store(ctx: Context, domain_id: str, config: Mapping[str, Mapping[str, Any]]) -> None:
    """Set options; the others stay."""
    for group, options in config.items():
        for option, value in options.items():
            sealed = seal(ctx.settings.keys_folder, json.dumps(value))
            remove(ctx.tx, domain_id, group, option)
            DOMAIN_OPTIONS.insert(ctx.tx, DomainOption(
                domain_id=domain_id, group_name=group, option_name=option, sealed_value=sealed))  # fmt: skip


def remove(tx: Tx, domain_id: str, group: str = "", option: str = "") -> int:
    """Forget the options of a domain, of a group of it, or one; how many there were."""
    where = {"group_name": group} if group else {}
    where |= {"option_name": option} if option else {}
    return DOMAIN_OPTIONS.delete(tx, domain_id=domain_id, **where)


def part(config: Config, group: str = "", option: str = "") -> dict[str, Any]:
    """What a path asks for, as the API shows it; raises NotFound."""
    if not group:
        found: dict[str, Any] = config
    elif not option:
        found = {group: config[group]} if group in config else {}
    else:
        found = {option: config[group][option]} if option in config.get(group, {}) else {}
    if not found:
        raise NotFound(f"Could not find {'option ' + option if option else 'group ' + group if group else 'any'}"
                       " in the domain configuration.")  # fmt: skip
    return {"config": found}


class Place(Struct, frozen=True, kw_only=True):
    """What a path names: the configuration of a domain (None: the defaults), a group of it, or an option."""

    domain: Project | None
    group: str
    option: str

    @property
    def domain_id(self) -> str:
        assert self.domain is not None, "only the defaults have no domain"
        return self.domain.id


def load_place(ctx: Context, domain_id: str, group: str = "", option: str = "") -> Place:
    """The place that a path names, in a domain that the caller may see."""
    return checked(Place(domain=load_domain(ctx, domain_id), group=group, option=option))


def load_default(ctx: Context, group: str = "", option: str = "") -> Place:
    """The place among the defaults that a path names."""
    return checked(Place(domain=None, group=group, option=option))


def checked(place: Place) -> Place:
    """Refuse to speak of groups and options that there are not."""
    if place.group:
        check_names(place.group, [place.option] if place.option else ())
    return place


@IDENTITY.op(
    "PUT", "/domains/{domain_id}/config", rule="identity:create_domain_config", allow=ADMIN, load=load_place,
    takes=CONFIG, ok=201,
)  # fmt: skip
def create(ctx: Context, place: Place, whole: dict[str, Any]) -> Reply:
    """Give a domain exactly these options."""
    check_config(whole["config"])
    replaced = remove(ctx.tx, place.domain_id)
    store(ctx, place.domain_id, whole["config"])
    settle(ctx, place.domain_id)
    return Reply({"config": config_of(ctx, place.domain_id)}, status=200 if replaced else 201)


def show(ctx: Context, place: Place) -> dict[str, Any]:
    """Show the configuration of a domain, or a part of it."""
    return part(config_of(ctx, place.domain_id), place.group, place.option)


def update(ctx: Context, place: Place, whole: dict[str, Any]) -> dict[str, Any]:
    """Change options of a domain; with a path only those that it names, which must be there."""
    config = {place.group: whole["config"]} if place.option else whole["config"]
    check_config(config)
    if (place.group and set(config) != {place.group}) or (place.option and set(config[place.group]) != {place.option}):
        raise Forbidden("config: it must hold what the path names, and nothing else.")
    part(config_of(ctx, place.domain_id), place.group, place.option)
    store(ctx, place.domain_id, config)
    settle(ctx, place.domain_id)
    return {"config": config_of(ctx, place.domain_id)}


def delete(ctx: Context, place: Place) -> Reply:
    """Forget options of a domain."""
    if not remove(ctx.tx, place.domain_id, place.group, place.option):
        raise NotFound("Could not find that in the domain configuration.")
    settle(ctx, place.domain_id)
    return Reply()


def show_defaults(place: Place) -> dict[str, Any]:
    """Show the options that domains may have, with their defaults."""
    visible = {g: {o: v for o, v in options.items() if (g, o) not in _HIDDEN} for g, options in OPTIONS.items()}
    return part(visible, place.group, place.option)


def compliance(ctx: Context, domain_id: str, option: str = "") -> Mapping[str, Any]:
    """Loader of what everybody may know of the rules for passwords, which are those of the domain Default."""
    if domain_id != DEFAULT_DOMAIN:
        raise Forbidden("config: the group security_compliance is that of the default domain alone.")
    rules = ctx.settings.config.identity
    found = {"password_regex": rules.pattern or None, "password_regex_description": rules.pattern_meaning or None}
    if option and option not in found:
        raise Forbidden(f"config: of security_compliance only {' and '.join(found)} are told.")
    return {option: found[option]} if option else {"security_compliance": found}


def show_compliance(told: Mapping[str, Any]) -> dict[str, Any]:
    """Show what passwords of users must look like."""
    return {"config": told}


for _part in ("", "/{option}"):
    IDENTITY.op(
        "GET", "/domains/{domain_id}/config/security_compliance" + _part, load=compliance, allow="@",
        rule="identity:get_security_compliance_domain_config",
    )(show_compliance)  # fmt: skip

for _part in ("", "/{group}", "/{group}/{option}"):
    _path = "/domains/{domain_id}/config" + _part
    IDENTITY.op("GET", _path, rule="identity:get_domain_config", allow=READER, load=load_place)(show)
    IDENTITY.op("PATCH", _path, rule="identity:update_domain_config", allow=ADMIN, load=load_place, takes=CONFIG)(
        update
    )
    IDENTITY.op("DELETE", _path, rule="identity:delete_domain_config", allow=ADMIN, load=load_place, ok=204)(delete)
    IDENTITY.op(
        "GET", f"/domains/config{_part}/default", rule="identity:get_domain_config_default", allow=READER,
        load=load_default,
    )(show_defaults)  # fmt: skip
