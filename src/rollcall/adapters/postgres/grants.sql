-- The rights of importer and operator in the tables, and no others. See docs/roles.sql.
--
-- `rollcall migrate` runs this file each time if both roles exist. It can be run repeatedly.

-- To check that every migration of this version is applied.
grant select (migration_id) on _yoyo_migration to rollcall_importer, rollcall_operator;

-- An import inserts users, and updates them under ROLLCALL_ON_DUPLICATE=update. It reads existing users and corrected
-- lines. It deletes no user, not even its own: a failed transaction is rolled back.
grant select, insert, update on users to rollcall_importer;
grant select, insert, update on imports to rollcall_importer;
grant select, insert on corrections to rollcall_importer;
-- The sweep runs as the importer. It records the uploads that it queued, and deletes them once the ledger has them.
grant select, insert, update, delete on lost_uploads to rollcall_importer;
grant usage on sequence imports_id_seq to rollcall_importer;
-- Needed under ROLLCALL_UNIQUE_BY, because staged rows get their ids before they are inserted, and if the table users
-- existed before Rollcall, with a serial key.
do $$
declare
    numbers text := pg_get_serial_sequence('users', 'id');
begin
    if numbers is not null then
        execute format('grant usage on sequence %s to rollcall_importer', numbers);
    end if;
end
$$;

-- An undo deletes users and the corrections, and marks the import. Its ledger entry stays.
grant select, delete on users to rollcall_operator;
grant select, update (undone_at) on imports to rollcall_operator;
grant select, delete on corrections to rollcall_operator;
