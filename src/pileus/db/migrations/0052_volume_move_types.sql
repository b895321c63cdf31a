-- A volume that moves keeps its type until its bytes are there; this is the type that it gets then.
alter table volumes add column move_type_id text;
