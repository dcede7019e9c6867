-- The ledger has one row for each upload. Each user has the id of the import that registered it.
create table imports (
    id bigint generated always as identity primary key,
    identity text not null unique,
    key_identity text not null,
    bucket text not null,
    object_key text not null,
    version text not null,
    sha256 text,
    status text not null check (status in ('loaded', 'partially_loaded', 'refused', 'skipped')),
    code text,
    rows_read bigint not null,
    registered bigint not null,
    updated bigint not null,
    unchanged bigint not null,
    rejected bigint not null,
    withheld bigint not null,
    started_at timestamptz not null,
    committed_at timestamptz not null default now(),
    undone_at timestamptz,
    receipt jsonb not null,
    -- The application checks this, too. The constraint holds for every client.
    constraint imports_conserve_rows
        check (rows_read = registered + updated + unchanged + rejected + withheld),
    in_force boolean not null
        generated always as (status in ('loaded', 'partially_loaded') and undone_at is null) stored
);
create index imports_by_content on imports (sha256) where in_force;
create index imports_by_key on imports (key_identity) where in_force;
