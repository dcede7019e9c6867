-- The uploader, as a SHA-256 of who it is, so that uploaders see their own imports. Null if the upload belongs to the
-- operators, as all uploads before this migration.
alter table imports add column uploaded_by text;
-- For pages of the imports of one uploader, the newest first.
create index imports_by_uploader on imports (uploaded_by, id) where uploaded_by is not null;
