"""What the tenancy tests let pass, each with its reason: upstream's default policies say the same."""

# Rules that also let read-only users write, each with the reason.
OPEN_TO_READERS = {
    "identity:create_application_credential": "a user's own; it can do no more than the user",
    "identity:delete_application_credential": "a user's own",
    "identity:delete_access_rule": "a user's own",
    "identity:create_credential": "a user's own",
    "identity:update_credential": "a user's own",
    "identity:delete_credential": "a user's own",
    "identity:create_trust": "a user's own; the trustee can do no more than the user",
    "identity:delete_trust": "a user's own",
    "identity:delete_access_token": "a user's own",
    "identity:ec2_create_credential": "a user's own",
    "identity:ec2_delete_credential": "a user's own",
    "identity:revoke_token": "who holds a token may end it",
    "identity:revoke_tokens_for_user": "a user's own",
    "os_compute_api:os-keypairs:create": "a user's own",
    "os_compute_api:os-keypairs:delete": "a user's own",
    "os_compute_api:os-security-groups:get": "a list that first makes the group that every project has",
    "get_security_group": "a list that first makes the group that every project has",
    "get_security_group_rule": "a list that first makes the group that every project has",
}
# Rules that need no scope, each with the reason; True in MEANT_FOR_ALL: what they name is the same for everybody.
OPEN_TO_ALL = {
    "identity:get_auth_projects": "how a token without scope finds what to ask a scope for",
    "identity:get_auth_domains": "as get_auth_projects",
    "identity:get_auth_system": "as get_auth_projects",
    "identity:get_auth_catalog": "part of every answer that issues a token",
    "identity:list_credentials": "a user's own",
    "identity:list_regions": "part of every catalog",
    "identity:get_region": "part of every catalog",
    "identity:get_limit_model": "a constant",
    "identity:get_security_compliance_domain_config": "what a password must look like, for those who choose one",
    "identity:list_registered_limits": "defaults of the cloud, which upstream shows to all",
    "identity:get_registered_limit": "defaults of the cloud, which upstream shows to all",
    "identity:list_limits": "shows those of the caller's own scope only",
    "os_compute_api:os-availability-zone:list": "names of zones, which upstream shows to all",
    "os_compute_api:extensions": "a constant",
    "os_compute_api:flavors": "the price list; private flavors are filtered by project",
    "os_compute_api:os-quota-sets:defaults": "defaults of the cloud, which upstream shows to all",
    "os_compute_api:limits": "limits of the caller's own project",
    "get_availability_zone": "names of zones, which upstream shows to all",
    "get_extensions": "a constant",
    "get_service_provider": "a constant",
}
# Rules of what others are told the id of, so that it is no secret whether it exists.
GIVEN_AWAY = {
    "volume:accept_transfer": "an offer is told to whom it is made, with a key that then decides",
    "os_compute_api:os-quota-sets:defaults": "the same for every project, whether it exists or not",
}
# What needs no token, and why.
PUBLIC_PATHS = {
    **dict.fromkeys(
        (f"GET {path}" for path in (
            "/identity", "/identity/v3", "/placement", "/image", "/image/versions", "/image/v2", "/networking",
            "/networking/v2.0", "/volume", "/volume/v3", "/compute", "/compute/v2", "/compute/v2.1")),
        "clients find the versions and the address of an API there, before they have a token",
    ),
    "POST /identity/v3/auth/tokens": "it is how one gets a token",
    "POST /identity/v3/OS-OAUTH2/token": "it is how one gets a token",
    **dict.fromkeys(
        (f"{way} /identity/v3{path}" for way, path in (
            ("POST", "/auth/OS-FEDERATION/saml2"), ("POST", "/auth/OS-FEDERATION/saml2/ecp"))),
        "the token that is exchanged for an assertion stands in the body",
    ),
    "GET /identity/v3/OS-FEDERATION/saml2/metadata": "other clouds read there who this cloud is",
    "GET /identity/v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/saml2":
        "identity providers read there who this cloud is",
    **dict.fromkeys(
        (f"{way} /identity/v3{path}" for way, path in (
            ("POST", "/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/saml2"),
            ("GET", "/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/oidc"),
            ("GET", "/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/auth"),
            ("POST", "/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/auth"),
            ("GET", "/auth/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/websso"),
            ("POST", "/auth/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/websso"),
            ("GET", "/auth/OS-FEDERATION/websso/{protocol_id}"),
            ("POST", "/auth/OS-FEDERATION/websso/{protocol_id}"))),
        "it is how one gets a token by what an identity provider says",
    ),
    "POST /identity/v3/OS-OAUTH1/request_token": "the request is signed",
    "POST /identity/v3/OS-OAUTH1/access_token": "the request is signed",
    "POST /identity/v3/users/{user_id}/password": "the old password must be given; it may have expired",
}  # fmt: skip
