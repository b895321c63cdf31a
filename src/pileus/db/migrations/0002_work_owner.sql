-- Who holds a lease: a worker that starts takes back at once what it held when it was killed.
alter table work add column owner text;
