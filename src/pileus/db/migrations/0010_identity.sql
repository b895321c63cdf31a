create table regions (
    id text primary key,
    description text not null,
    parent_region_id text references regions (id)
);
