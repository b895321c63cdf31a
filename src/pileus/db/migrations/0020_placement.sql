-- Placement: who provides what, and who consumes it.  Usage is summed from allocations, never stored.
create table resource_providers (
    id text primary key,
    name text not null unique,
    generation bigint not null,
    parent_id text references resource_providers (id),
    root_id text not null,
    traits text not null,
    reported_traits text not null,
    aggregates text not null,
    created_at double precision not null,
    updated_at double precision not null
);
create index resource_providers_root on resource_providers (root_id);
create index resource_providers_parent on resource_providers (parent_id);
create table inventories (
    provider_id text not null references resource_providers (id),
    resource_class text not null,
    amounts text not null,
    reported bigint not null,
    updated_at double precision not null,
    primary key (provider_id, resource_class)
);
create table consumers (
    id text primary key,
    project_id text not null,
    user_id text not null,
    type text,
    generation bigint not null,
    created_at double precision not null,
    updated_at double precision not null
);
create index consumers_project on consumers (project_id, user_id);
create table allocations (
    consumer_id text not null references consumers (id),
    provider_id text not null references resource_providers (id),
    resource_class text not null,
    used bigint not null,
    updated_at double precision not null,
    primary key (consumer_id, provider_id, resource_class)
);
create index allocations_provider on allocations (provider_id, resource_class, used);
create table custom_traits (
    name text primary key,
    created_at double precision not null
);
create table custom_resource_classes (
    name text primary key,
    created_at double precision not null
);
