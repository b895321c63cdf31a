-- Users and groups that come from a directory: which row of ours stands for which entry of it.
create table directory_entries (
    id text primary key,
    domain_id text not null references projects (id) on delete cascade,
    kind text not null,
    local_id text not null,
    member_key text not null,
    gone bigint not null,
    seen_at double precision not null,
    unique (domain_id, kind, local_id)
);
create index directory_entries_key on directory_entries (domain_id, member_key);
create index directory_entries_seen on directory_entries (domain_id, seen_at);
create index directory_entries_gone on directory_entries (gone);
