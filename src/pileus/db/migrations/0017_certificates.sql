-- Certificates by which programs act for users: what they are known by, beside the sealed credential that holds them.
create table certificate_thumbprints (
    credential_id text primary key references credentials (id) on delete cascade,
    thumbprint text not null
);
create index certificate_thumbprints_thumbprint on certificate_thumbprints (thumbprint);
