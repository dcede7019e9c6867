-- An upload with the key or the size of an earlier one may be there already, so it is looked up before its rows are
-- registered.
create index imports_by_any_key on imports (key_identity);
create index imports_by_size on imports ((receipt -> 'source' ->> 'size'));
