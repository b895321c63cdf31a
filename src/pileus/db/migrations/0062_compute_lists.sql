-- Lists come newest first and the id breaks ties: with it in the index nothing is left to sort.

drop index servers_project;
drop index servers_created;
create index servers_project on servers (project_id, created_at, id);
create index servers_created on servers (created_at, id);
