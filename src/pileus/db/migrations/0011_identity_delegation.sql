-- Identity: delegation (trusts, OAuth), rules of passwords, policies, endpoint filters, configuration of domains.
create table password_history (
    id text primary key,
    user_id text not null references users (id) on delete cascade,
    hash text not null,
    set_at double precision not null
);
create index password_history_user on password_history (user_id, set_at);
-- No reference to users: whoever does not exist is counted too, under one name, so that no answer is quicker.
create table log_in_failures (
    user_id text primary key,
    failures bigint not null,
    failed_at double precision not null
);
create table users_seen (
    user_id text primary key references users (id) on delete cascade,
    seen_at double precision not null
);
create table totp_steps (
    credential_id text primary key references credentials (id) on delete cascade,
    step bigint not null
);
create table trusts (
    id text primary key,
    trustor_user_id text not null references users (id) on delete cascade,
    trustee_user_id text not null references users (id) on delete cascade,
    project_id text not null references projects (id) on delete cascade,
    impersonation bigint not null,
    roles text not null,
    expires_at double precision,
    remaining_uses bigint,
    redelegated_trust_id text references trusts (id) on delete cascade,
    redelegation_count bigint not null,
    created_at double precision not null,
    extra text not null
);
create index trusts_trustor on trusts (trustor_user_id);
create index trusts_trustee on trusts (trustee_user_id);
create index trusts_project on trusts (project_id);
create index trusts_redelegated on trusts (redelegated_trust_id);
create table oauth_consumers (
    id text primary key,
    description text,
    sealed_secret text not null,
    extra text not null
);
create table oauth_request_tokens (
    id text primary key,
    consumer_id text not null references oauth_consumers (id) on delete cascade,
    sealed_secret text not null,
    project_id text not null references projects (id) on delete cascade,
    callback text not null,
    verifier text,
    user_id text references users (id) on delete cascade,
    roles text,
    expires_at double precision not null
);
create index oauth_request_tokens_expiry on oauth_request_tokens (expires_at);
create table oauth_access_tokens (
    id text primary key,
    consumer_id text not null references oauth_consumers (id) on delete cascade,
    sealed_secret text not null,
    user_id text not null references users (id) on delete cascade,
    project_id text not null references projects (id) on delete cascade,
    roles text not null,
    expires_at double precision not null
);
create index oauth_access_tokens_user on oauth_access_tokens (user_id);
create table oauth_nonces (
    client text not null,
    nonce text not null,
    at double precision not null,
    primary key (client, nonce)
);
create index oauth_nonces_at on oauth_nonces (at);
create table policies (
    id text primary key,
    type text not null,
    blob text not null,
    extra text not null
);
create table policy_associations (
    policy_id text not null references policies (id) on delete cascade,
    endpoint_id text references endpoints (id) on delete cascade,
    service_id text references services (id) on delete cascade,
    region_id text references regions (id) on delete cascade
);
create unique index policy_associations_once on policy_associations
    (coalesce(endpoint_id, ''), coalesce(service_id, ''), coalesce(region_id, ''));
create index policy_associations_policy on policy_associations (policy_id);
create table endpoint_groups (
    id text primary key,
    name text not null,
    description text,
    filters text not null
);
create table project_endpoints (
    project_id text not null references projects (id) on delete cascade,
    endpoint_id text not null references endpoints (id) on delete cascade,
    primary key (project_id, endpoint_id)
);
create index project_endpoints_endpoint on project_endpoints (endpoint_id);
create table project_endpoint_groups (
    project_id text not null references projects (id) on delete cascade,
    endpoint_group_id text not null references endpoint_groups (id) on delete cascade,
    primary key (project_id, endpoint_group_id)
);
create index project_endpoint_groups_group on project_endpoint_groups (endpoint_group_id);
create table domain_options (
    domain_id text not null references projects (id) on delete cascade,
    group_name text not null,
    option_name text not null,
    sealed_value text not null,
    primary key (domain_id, group_name, option_name)
);
