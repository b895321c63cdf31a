-- Identity: federation.  A group membership that a log-in brought ends by itself.
create table identity_providers (
    id text primary key,
    domain_id text not null references projects (id) on delete cascade,
    enabled bigint not null,
    description text,
    authorization_ttl bigint
);
create index identity_providers_domain on identity_providers (domain_id);
create table identity_provider_remote_ids (
    remote_id text primary key,
    idp_id text not null references identity_providers (id) on delete cascade
);
create index identity_provider_remote_ids_provider on identity_provider_remote_ids (idp_id);
create table federation_mappings (
    id text primary key,
    rules text not null,
    schema_version text not null
);
create table federation_protocols (
    idp_id text not null references identity_providers (id) on delete cascade,
    id text not null,
    mapping_id text not null,
    remote_id_attribute text,
    primary key (idp_id, id)
);
create table federated_users (
    user_id text primary key references users (id) on delete cascade,
    idp_id text not null,
    protocol_id text not null,
    unique_id text not null,
    display_name text not null,
    foreign key (idp_id, protocol_id) references federation_protocols (idp_id, id) on delete cascade
);
create unique index federated_users_once on federated_users (idp_id, protocol_id, unique_id);
alter table memberships add column expires_at double precision;
alter table memberships add column idp_id text references identity_providers (id) on delete cascade;
create index memberships_expiry on memberships (expires_at);
create index memberships_provider on memberships (idp_id);
