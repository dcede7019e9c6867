-- The rejected rows that were corrected, and the import that corrected each. A row can be corrected once.
create table corrections (
    import_id bigint not null,
    line bigint not null,
    corrected_by bigint not null,
    primary key (import_id, line)
);
create index corrections_by_import on corrections (corrected_by);
