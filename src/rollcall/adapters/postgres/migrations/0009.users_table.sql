-- The table of the users of each import. A ledger serves one table, because an undo or a repeat must not mix two.
alter table imports add column users_table text not null default 'users';
-- The least and the greatest name are found without reading the ledger.
create index imports_by_users_table on imports (users_table);
