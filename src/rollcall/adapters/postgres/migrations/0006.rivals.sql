-- The ledger's constraints refuse a second import in force where the policy of an import forbids one; locks only make
-- rivals wait. Imports before this migration are exempt, because they may include legal duplicates.
alter table imports
    add column forbids_repeat boolean not null default false,
    add column forbids_new_version boolean not null default false;
create unique index imports_one_of_content on imports (sha256) where in_force and forbids_repeat;
create unique index imports_one_of_key on imports (key_identity) where in_force and forbids_new_version;
