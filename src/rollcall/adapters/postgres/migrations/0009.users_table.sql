-- The table of the users of each import. A ledger serves one table, because an undo or a repeat must not mix two.
alter table imports add column users_table text not null default 'users';
-- The least and the greatest name are found without reading the ledger.
create index imports_by_users_table on imports (users_table);
-- Earlier versions made the table users, or took an existing one that fitted. Later ones make it from the record.
do $$
begin
    if exists (
        select from pg_attribute as attribute
        join pg_attrdef as set_by on set_by.adrelid = attribute.attrelid and set_by.adnum = attribute.attnum
        where attribute.attrelid = to_regclass(format('%I.users', current_schema()))
            and attribute.attname = 'import_id'
            and position('rollcall.import_id' in pg_get_expr(set_by.adbin, set_by.adrelid)) > 0
    ) then
        comment on column users.import_id is 'Made by Rollcall: the import that registered the user.';
    end if;
end
$$;
