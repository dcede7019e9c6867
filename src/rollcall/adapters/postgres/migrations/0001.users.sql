-- The users. A table of the same shape that is there already, as the guide's own, is taken over with its rows.
create table if not exists users (
    id bigint generated always as identity (cache 1000) primary key,
    name text not null,
    country text not null,
    age integer not null
);
