-- Identity.  What hangs on a row goes with it (on delete cascade), so that nothing is forgotten.
create table identity_version (
    id bigint primary key,
    version bigint not null
);
insert into identity_version (id, version) values (1, 1);
create table projects (
    id text primary key,
    name text not null,
    domain_id text references projects (id) on delete cascade,
    parent_id text references projects (id) on delete cascade,
    is_domain bigint not null,
    enabled bigint not null,
    description text not null,
    options text not null,
    extra text not null,
    generation bigint not null
);
create unique index projects_name on projects (coalesce(domain_id, ''), name);
create index projects_domain on projects (domain_id);
create index projects_parent on projects (parent_id);
create table project_tags (
    project_id text not null references projects (id) on delete cascade,
    name text not null,
    primary key (project_id, name)
);
create index project_tags_name on project_tags (name);
create table users (
    id text primary key,
    name text not null,
    domain_id text not null references projects (id) on delete cascade,
    enabled bigint not null,
    default_project_id text,
    password_expires_at double precision,
    options text not null,
    extra text not null,
    generation bigint not null,
    unique (domain_id, name)
);
create index users_name on users (name);
create table password_hashes (
    owner_id text primary key,
    hash text not null
);
create table user_groups (
    id text primary key,
    name text not null,
    domain_id text not null references projects (id) on delete cascade,
    description text not null,
    extra text not null,
    unique (domain_id, name)
);
create table memberships (
    user_id text not null references users (id) on delete cascade,
    group_id text not null references user_groups (id) on delete cascade,
    primary key (user_id, group_id)
);
create index memberships_group on memberships (group_id);
create table roles (
    id text primary key,
    name text not null,
    domain_id text references projects (id) on delete cascade,
    description text,
    options text not null,
    extra text not null
);
create unique index roles_name on roles (coalesce(domain_id, ''), name);
create table implied_roles (
    prior_role_id text not null references roles (id) on delete cascade,
    implied_role_id text not null references roles (id) on delete cascade,
    primary key (prior_role_id, implied_role_id)
);
create table role_assignments (
    role_id text not null references roles (id) on delete cascade,
    user_id text references users (id) on delete cascade,
    group_id text references user_groups (id) on delete cascade,
    target_id text references projects (id) on delete cascade,
    inherited bigint not null
);
create unique index role_assignments_once on role_assignments
    (coalesce(user_id, ''), coalesce(group_id, ''), coalesce(target_id, ''), role_id, inherited);
create index role_assignments_group on role_assignments (group_id);
create index role_assignments_target on role_assignments (target_id);
create index role_assignments_role on role_assignments (role_id);
create table access_rules (
    id text primary key,
    user_id text not null references users (id) on delete cascade,
    service text not null,
    method text not null,
    path text not null,
    unique (user_id, service, method, path)
);
create table application_credentials (
    id text primary key,
    user_id text not null references users (id) on delete cascade,
    project_id text not null references projects (id) on delete cascade,
    name text not null,
    description text,
    expires_at double precision,
    unrestricted bigint not null,
    roles text not null,
    access_rules text,
    unique (user_id, name)
);
create index application_credentials_project on application_credentials (project_id);
create table revoked_tokens (
    audit_id text primary key,
    expires_at double precision not null,
    cascade bigint not null
);
create index revoked_tokens_expiry on revoked_tokens (expires_at);
create table regions (
    id text primary key,
    description text not null,
    parent_region_id text references regions (id)
);
create table services (
    id text primary key,
    type text not null,
    name text not null,
    description text not null,
    enabled bigint not null,
    extra text not null
);
create index services_type on services (type);
create table endpoints (
    id text primary key,
    service_id text not null references services (id) on delete cascade,
    region_id text references regions (id),
    interface text not null,
    url text not null,
    enabled bigint not null,
    extra text not null
);
create index endpoints_service on endpoints (service_id);
create table credentials (
    id text primary key,
    user_id text not null references users (id) on delete cascade,
    project_id text references projects (id) on delete cascade,
    type text not null,
    sealed_blob text not null
);
create index credentials_user on credentials (user_id);
create table registered_limits (
    id text primary key,
    service_id text not null references services (id) on delete cascade,
    region_id text references regions (id),
    resource_name text not null,
    default_limit bigint not null,
    description text
);
create unique index registered_limits_once on registered_limits (service_id, coalesce(region_id, ''), resource_name);
create table limits (
    id text primary key,
    registered_limit_id text not null references registered_limits (id),
    project_id text references projects (id) on delete cascade,
    domain_id text references projects (id) on delete cascade,
    resource_limit bigint not null,
    description text
);
create unique index limits_once on limits
    (registered_limit_id, coalesce(project_id, ''), coalesce(domain_id, ''));
