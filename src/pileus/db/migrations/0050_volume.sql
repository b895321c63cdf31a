-- Block storage.  Columns above "status" are wishes, written by the API; those below it by step alone.
create table qos_specs (
    id text primary key,
    name text not null unique,
    consumer text not null,
    specs text not null,
    created_at double precision not null
);
create table volume_types (
    id text primary key,
    name text not null unique,
    description text,
    is_public bigint not null,
    extra_specs text not null,
    qos_specs_id text references qos_specs (id),
    created_at double precision not null,
    updated_at double precision
);
create index volume_types_qos on volume_types (qos_specs_id);
insert into volume_types (id, name, description, is_public, extra_specs, created_at)
    values ('6a6f0e5c-38a1-5c0b-9d53-0f2f5f0d7c11', '__DEFAULT__', 'Default Volume Type', 1, '{}', 0);
create table volume_type_access (
    volume_type_id text not null references volume_types (id),
    project_id text not null,
    primary key (volume_type_id, project_id)
);
create table volume_type_encryptions (
    volume_type_id text primary key references volume_types (id),
    encryption_id text not null unique,
    provider text not null,
    control_location text not null,
    cipher text,
    key_size bigint,
    created_at double precision not null,
    updated_at double precision
);
create table default_volume_types (
    project_id text primary key,
    volume_type_id text not null references volume_types (id)
);
create table volumes (
    id text primary key,
    project_id text not null,
    user_id text not null,
    name text,
    description text,
    zone text not null,
    volume_type_id text not null references volume_types (id),
    metadata text not null,
    image_metadata text not null,
    wanted_gib bigint not null,
    bootable bigint not null,
    multiattach bigint not null,
    read_only bigint,
    image_id text,
    snapshot_id text,
    source_volid text,
    near_node_id text,
    for_server bigint not null,
    held bigint not null,
    detaching bigint not null,
    transferring bigint not null,
    upload_image_id text,
    revert_snapshot_id text,
    reverts bigint not null,
    reimage_id text,
    reimages bigint not null,
    deleting bigint not null,
    forced_status text,
    migration_status text,
    generation bigint not null,
    request_id text not null,
    created_at double precision not null,
    updated_at double precision,
    -- status
    node_id text,
    pool text,
    backend text,
    size_gib bigint not null,
    made bigint not null,
    uploaded_image_id text,
    reverted bigint not null,
    reimaged bigint not null,
    emptied bigint not null,
    fault text,
    fault_generation bigint not null,
    seen_at double precision
);
create index volumes_project on volumes (project_id, created_at);
create index volumes_type on volumes (volume_type_id);
create index volumes_node on volumes (node_id, pool);
create index volumes_snapshot on volumes (snapshot_id);
create index volumes_source on volumes (source_volid);
create table volume_snapshots (
    id text primary key,
    volume_id text not null references volumes (id),
    project_id text not null,
    user_id text not null,
    name text,
    description text,
    metadata text not null,
    size_gib bigint not null,
    deleting bigint not null,
    forced_status text,
    forced_progress text,
    generation bigint not null,
    request_id text not null,
    created_at double precision not null,
    updated_at double precision,
    -- status
    made bigint not null,
    fault text,
    fault_generation bigint not null,
    seen_at double precision
);
create index volume_snapshots_project on volume_snapshots (project_id, created_at);
create index volume_snapshots_volume on volume_snapshots (volume_id, created_at);
create table volume_attachments (
    id text primary key,
    volume_id text not null references volumes (id),
    project_id text not null,
    server_id text,
    host_name text,
    mode text not null,
    managed bigint not null,
    node_id text,
    mountpoint text,
    attached bigint not null,
    attached_at double precision,
    released bigint not null,
    connector text,
    generation bigint not null,
    created_at double precision not null,
    updated_at double precision,
    -- status
    export_node_id text,
    leaving bigint not null,
    connection text,
    fault text,
    fault_generation bigint not null
);
create index volume_attachments_volume on volume_attachments (volume_id);
create index volume_attachments_server on volume_attachments (server_id);
create index volume_attachments_export on volume_attachments (export_node_id);
-- Who reads the bytes of a volume or a snapshot at this moment (a snapshot, a clone, an upload in the making).
create table volume_readers (
    thing_id text not null,
    reader_id text not null,
    server_id text not null,
    node_id text not null,
    primary key (thing_id, reader_id)
);
create table volume_transfers (
    id text primary key,
    volume_id text not null unique references volumes (id),
    project_id text not null,
    name text,
    salt text not null,
    key_hash text not null,
    no_snapshots bigint not null,
    created_at double precision not null
);
create index volume_transfers_project on volume_transfers (project_id);
create table volume_messages (
    id text primary key,
    project_id text not null,
    request_id text not null,
    resource_type text not null,
    resource_id text not null,
    event_id text not null,
    level text not null,
    text text not null,
    created_at double precision not null,
    expires_at double precision not null
);
create index volume_messages_project on volume_messages (project_id, created_at);
create index volume_messages_resource on volume_messages (resource_id);
create table volume_services (
    host text primary key,
    disabled bigint not null,
    disabled_reason text,
    frozen bigint not null
);
