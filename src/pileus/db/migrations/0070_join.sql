-- Tokens by which machines join the cloud as nodes: single use, short-lived, kept as hashes.
create table join_tokens (
    hash text primary key,
    created_at double precision not null,
    expires_at double precision not null,
    node_id text
);
