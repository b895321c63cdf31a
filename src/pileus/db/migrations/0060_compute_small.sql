-- Compute: what stands beside servers.
create table flavors (
    id text primary key,
    name text not null unique,
    vcpus bigint not null,
    ram_mib bigint not null,
    disk_gib bigint not null,
    ephemeral_gib bigint not null,
    swap_mib bigint not null,
    rxtx_factor double precision not null,
    is_public bigint not null,
    description text,
    extra_specs text not null,
    created_at double precision not null,
    updated_at double precision
);
create table flavor_access (
    flavor_id text not null references flavors (id) on delete cascade,
    project_id text not null,
    primary key (flavor_id, project_id)
);
create index flavor_access_project on flavor_access (project_id);
create table keypairs (
    number bigint primary key,
    user_id text not null,
    name text not null,
    type text not null,
    fingerprint text not null,
    public_key text not null,
    created_at double precision not null,
    unique (user_id, name)
);
create table server_groups (
    id text primary key,
    name text not null,
    policy text not null,
    rules text not null,
    project_id text not null,
    user_id text not null,
    created_at double precision not null
);
create index server_groups_project on server_groups (project_id);
create table server_group_members (
    server_id text primary key,
    group_id text not null references server_groups (id)
);
create index server_group_members_group on server_group_members (group_id);
create table aggregates (
    number bigint primary key,
    id text not null unique,
    name text not null unique,
    metadata text not null,
    created_at double precision not null,
    updated_at double precision
);
create table aggregate_hosts (
    aggregate_id text not null references aggregates (id),
    node_id text not null,
    primary key (aggregate_id, node_id)
);
create index aggregate_hosts_node on aggregate_hosts (node_id);
create table forced_down (
    node_id text primary key,
    at double precision not null
);
create table ended_servers (
    id text primary key,
    project_id text not null,
    name text not null,
    flavor text not null,
    vcpus bigint not null,
    ram_mib bigint not null,
    disk_gib bigint not null,
    started_at double precision not null,
    ended_at double precision not null
);
create index ended_servers_project on ended_servers (project_id, ended_at);
create index ended_servers_ended on ended_servers (ended_at);
