-- What importer and operator may do in the tables, and nothing beyond it. See docs/roles.sql.
--
-- `rollcall migrate` runs it each time, where both roles are there; to run it again does no harm.

-- Whether the database is migrated as far as this version needs.
grant select (migration_id) on _yoyo_migration to rollcall_importer, rollcall_operator;

-- An import adds, and under ROLLCALL_ON_DUPLICATE=update changes; it looks for users who are there, and for lines that
-- were corrected. It deletes no user, not even one it registered itself: a transaction that fails is rolled back.
grant select, insert, update on users to rollcall_importer;
grant select, insert, update on imports to rollcall_importer;
grant select, insert on corrections to rollcall_importer;
-- The sweep, which runs as the importer, remembers what it queued, and forgets it once it is in the ledger.
grant select, insert, update, delete on lost_uploads to rollcall_importer;
grant usage on sequence imports_id_seq to rollcall_importer;
-- Only a table users that was there before Rollcall, with a serial key, asks for this.
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
