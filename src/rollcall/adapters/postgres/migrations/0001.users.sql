-- The users. An existing table of the same shape, such as the one of the guide, is kept with its rows.
create table if not exists users (
    id bigint generated always as identity (cache 1000) primary key,
    name text not null,
    country text not null,
    age integer not null
);
