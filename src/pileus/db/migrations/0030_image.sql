-- Images and who they are shared with; the bytes are in the blob store under `location`.
create table images (
    id text primary key,
    project_id text not null,
    name text,
    visibility text not null,
    protected bigint not null,
    hidden bigint not null,
    disk_format text,
    container_format text,
    min_disk bigint not null,
    min_ram bigint not null,
    properties text not null,
    tags text not null,
    created_at double precision not null,
    updated_at double precision not null,
    deleting bigint not null,
    feed text,
    owner_kind text not null,
    owner_id text not null,
    status text not null,
    generation bigint not null,
    transfer text not null,
    transfer_seen double precision not null,
    staged text,
    leftovers text not null,
    fault text,
    size bigint not null,
    virtual_size bigint not null,
    checksum text,
    hash_value text,
    location text not null,
    url text not null
);
create index images_project on images (project_id);
create index images_visibility on images (visibility);
create index images_created on images (created_at, id);
create index images_name on images (name);
create table image_members (
    image_id text not null references images (id) on delete cascade,
    member_id text not null,
    status text not null,
    created_at double precision not null,
    updated_at double precision not null,
    primary key (image_id, member_id)
);
create index image_members_member on image_members (member_id, status);
