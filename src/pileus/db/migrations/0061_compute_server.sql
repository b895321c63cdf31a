-- Compute: servers and what belongs to them.
create table servers (
    id text primary key,
    project_id text not null,
    user_id text not null,
    created_at double precision not null,
    reservation_id text not null,
    launch_index bigint not null,
    -- the wish, written by the API
    changed_at double precision not null,
    name text not null,
    description text,
    hostname text not null,
    metadata text not null,
    image_id text,
    image_properties text not null,
    key_name text,
    public_key text,
    key_type text not null,
    user_data text,
    files text not null,
    config_drive bigint not null,
    disk_config text not null,
    access_ip_v4 text not null,
    access_ip_v6 text not null,
    zone text,
    host text,
    hints text not null,
    local_disks text not null,
    security_groups text not null,
    locked text not null,
    locked_reason text,
    password text not null,
    power text not null,
    starts bigint not null,
    resets bigint not null,
    reboots bigint not null,
    rebuilds bigint not null,
    rebuild_image text,
    rescue text,
    shelved text not null,
    shelve_image text,
    tries bigint not null,
    broken bigint not null,
    deleted bigint not null,
    action text not null,
    -- what it was given and what was last seen, written by its step
    moved_at double precision not null,
    flavor text not null,
    vcpus bigint not null,
    ram_mib bigint not null,
    disk_gib bigint not null,
    node_id text,
    node_name text,
    node_zone text,
    task text,
    seen text not null,
    starts_seen bigint not null,
    halted bigint not null,
    rebuilds_seen bigint not null,
    generation bigint not null,
    generations bigint not null,
    built bigint not null,
    root_image text,
    copied_from bigint,
    kept bigint,
    rescues bigint not null,
    rescued bigint not null,
    shelved_seen text not null,
    launched_at double precision,
    fault text,
    failed_try bigint not null,
    refused text not null,
    leaving bigint not null
);
create index servers_project on servers (project_id, created_at);
create index servers_created on servers (created_at);
create index servers_node on servers (node_id);
create table server_nics (
    port_id text primary key,
    server_id text not null references servers (id),
    position bigint not null,
    tag text,
    own bigint not null,
    detach bigint not null,
    plugged bigint not null
);
create index server_nics_server on server_nics (server_id);
create table server_volumes (
    id text primary key,
    server_id text not null references servers (id),
    volume_id text not null,
    position bigint not null,
    boot_index bigint,
    device text not null,
    tag text,
    bus text not null,
    device_type text not null,
    delete_on_termination bigint not null,
    source text not null,
    detach bigint not null,
    plugged bigint not null,
    unique (server_id, volume_id)
);
create index server_volumes_volume on server_volumes (volume_id);
create table server_tags (
    server_id text not null references servers (id),
    tag text not null,
    primary key (server_id, tag)
);
create index server_tags_tag on server_tags (tag);
create table server_migrations (
    id text primary key,
    number bigint not null unique,
    server_id text not null references servers (id),
    project_id text not null,
    user_id text not null,
    type text not null,
    old_flavor text not null,
    new_flavor text not null,
    wish text not null,
    created_at double precision not null,
    state text not null,
    source_node text,
    dest_node text,
    source_name text,
    dest_name text,
    old_generation bigint not null,
    updated_at double precision
);
create index server_migrations_server on server_migrations (server_id);
create table server_snapshots (
    id text primary key,
    server_id text not null,
    image_id text not null,
    kind text not null,
    disk_id text not null,
    node_id text not null,
    rotation bigint not null,
    backup_type text not null,
    created_at double precision not null,
    cancelled bigint not null,
    copied bigint not null,
    fed bigint not null
);
create index server_snapshots_server on server_snapshots (server_id);
create table console_tokens (
    digest text primary key,
    server_id text not null references servers (id),
    kind text not null,
    expires_at double precision not null
);
create index console_tokens_server on console_tokens (server_id);
