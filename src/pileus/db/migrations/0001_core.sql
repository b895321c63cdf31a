-- What every service uses: the queue of work, history, limits, small facts.
create table work (
    kind text not null,
    id text not null,
    due double precision,
    lease double precision not null default 0,
    epoch bigint not null default 0,
    pokes bigint not null default 0,
    attempts bigint not null default 0,
    why text,
    since double precision,
    primary key (kind, id)
);
create index work_due on work (due);
create table events (
    id text primary key,
    at double precision not null,
    kind text not null,
    resource_id text not null,
    project_id text,
    user_id text,
    request_id text,
    action text not null,
    phase text not null,
    message text,
    data text not null
);
create index events_resource on events (resource_id, at);
create index events_project on events (project_id, at);
create table quota_limits (
    service text not null,
    project_id text not null,
    resource text not null,
    value bigint not null,
    primary key (service, project_id, resource)
);
create table facts (
    name text primary key,
    value text not null
);
create table nodes (
    id text primary key,
    name text not null unique,
    url text not null,
    endpoint text not null,
    roles text not null,
    capabilities text not null,
    pools text not null,
    created_at double precision not null,
    seen_at double precision not null,
    disabled bigint not null,
    disabled_reason text,
    zone text not null
);
