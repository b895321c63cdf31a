-- Identity: clouds that trust this one's word on its users, and assertions that were used to log in here.
create table service_providers (
    id text primary key,
    auth_url text not null,
    sp_url text not null,
    enabled bigint not null,
    description text,
    relay_state_prefix text
);
create table saml_used_assertions (
    digest text primary key,
    expires_at double precision not null
);
create index saml_used_assertions_expiry on saml_used_assertions (expires_at);
