-- Volumes that move to another pool of their node, when their new type lives there (retype): the wish in move_pool
-- and moves; what became of it in moved and other_pool, where a trace of it may be besides its own pool.
alter table volumes add column move_pool text;
alter table volumes add column moves bigint not null default 0;
alter table volumes add column moved bigint not null default 0;
alter table volumes add column other_pool text;
