-- The audit trail: written in the transaction of what it tells, linked into a chain within a second.
create table audit (
    id text primary key,
    at double precision not null,
    event text not null,
    mac text not null,
    position bigint unique,
    link text
);
create index audit_unlinked on audit (at) where position is null;
create index audit_at on audit (at);
