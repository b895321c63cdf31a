-- An application credential that was made by another one ends with it.
alter table application_credentials add column made_by text references application_credentials (id) on delete cascade;
create index application_credentials_made_by on application_credentials (made_by);
