-- Administrator passwords that a config drive carries (admin_pass), sealed under a key outside of the database.
create table server_passwords (
    id text primary key, -- SERVER-ID/PURPOSE
    server_id text not null references servers (id),
    purpose text not null, -- create | rescue
    sealed_password text not null
);
create index server_passwords_server on server_passwords (server_id);
