-- The three roles of Rollcall, one for each job, and their way into one database:
--
--   rollcall_migrator   runs `rollcall migrate`, and owns the tables
--   rollcall_importer   imports: the Lambda functions, `rollcall import`, `rollcall watch`
--   rollcall_operator   looks and takes back: `rollcall imports`, `rollcall users`, `rollcall undo`
--
-- Run once for each database, by whoever administers it:   psql -d app -f docs/roles.sql
-- then, as rollcall_migrator, `rollcall migrate`, which gives the other two their rights in its tables, each time.
--
-- The roles come without passwords, so that nobody can come in by one yet. For each: `alter role … password '…'`, or on
-- Amazon RDS with IAM `grant rds_iam to …`. Tables that are there already change hands first, for each:
-- `alter table users owner to rollcall_migrator`.
--
-- What PostgreSQL gives to everybody is left as it is, for others may live by it. In a database of Rollcall's own, take it
-- away: `revoke all on database app from public`. In one that began before PostgreSQL 15, take away in any case
-- `revoke create on schema public from public`.

do $$
declare
    role text;
begin
    foreach role in array array['rollcall_migrator', 'rollcall_importer', 'rollcall_operator'] loop
        begin
            execute format('create role %I login', role);
        exception when duplicate_object then
            null; -- they are the server's, and may have come with another database
        end;
        execute format('grant connect on database %I to %I', current_database(), role);
    end loop;
    -- Rows that may be there already are put aside and compared: see ROLLCALL_UNIQUE_BY, and mended rows.
    execute format('grant temporary on database %I to rollcall_importer', current_database());
end
$$;

grant usage, create on schema public to rollcall_migrator;
grant usage on schema public to rollcall_importer, rollcall_operator;
