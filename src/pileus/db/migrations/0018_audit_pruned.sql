-- Where the audit trail begins since its older records were pruned: the place and link of the last one, under our MAC.
create table audit_pruned (
    position bigint primary key,
    link text not null,
    mac text not null
);
