-- The rights of importer and operator in the ledger, and no others. See docs/roles.sql.
--
-- `rollcall migrate` runs this file each time if both roles exist, and then grants the rights in the table of the
-- users. It can be run repeatedly.

-- To check that every migration of this version is applied.
grant select (migration_id) on _yoyo_migration to rollcall_importer, rollcall_operator;

-- An import reads corrected lines, and records its own.
grant select, insert, update on imports to rollcall_importer;
grant select, insert on corrections to rollcall_importer;
-- The sweep runs as the importer. It records the uploads that it queued, and deletes them once the ledger has them.
grant select, insert, update, delete on lost_uploads to rollcall_importer;
grant usage on sequence imports_id_seq to rollcall_importer;

-- An undo deletes the corrections, and marks the import. Its ledger entry stays.
grant select, update (undone_at) on imports to rollcall_operator;
grant select, delete on corrections to rollcall_operator;
