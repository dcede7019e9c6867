-- Uploads that a sweep found without an entry in the ledger: how often each was queued, and when last.
create table lost_uploads (
    identity text primary key,
    times_queued integer not null,
    last_queued_at timestamptz not null
);
