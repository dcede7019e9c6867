-- The three roles of Rollcall, one for each job, and their access to one database:
--
--   rollcall_migrator   runs `rollcall migrate`, and owns the tables
--   rollcall_importer   imports: the Lambda functions, `rollcall import`, `rollcall watch`
--   rollcall_operator   reads and undoes: `rollcall imports`, `rollcall users`, `rollcall undo`
--
-- An administrator of the database runs this once for each database:   psql -d app -f docs/roles.sql
-- Then rollcall_migrator runs `rollcall migrate`, which gives the other two their rights in its tables, each time.
--
-- The roles have no passwords, so nobody can connect as one of them yet.
-- For each: `alter role … password '…'`, or on Amazon RDS with IAM `grant rds_iam to …`.
-- Existing tables need a new owner first, each of them: `alter table users owner to rollcall_migrator`.
--
-- The rights that PostgreSQL gives to everybody stay, because others may need them.
-- In a database of Rollcall's own, remove them: `revoke all on database app from public`.
-- In a database that was made before PostgreSQL 15, always run `revoke create on schema public from public`.

do $$
declare
    role text;
begin
    foreach role in array array['rollcall_migrator', 'rollcall_importer', 'rollcall_operator'] loop
        begin
            execute format('create role %I login', role);
        exception when duplicate_object then
            null; -- roles belong to the server, and another database may have made them
        end;
        execute format('grant connect on database %I to %I', current_database(), role);
    end loop;
    -- Corrected rows, and all rows under ROLLCALL_UNIQUE_BY, are staged in a temporary table and compared.
    execute format('grant temporary on database %I to rollcall_importer', current_database());
end
$$;

grant usage, create on schema public to rollcall_migrator;
grant usage on schema public to rollcall_importer, rollcall_operator;
