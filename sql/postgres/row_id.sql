-- name: create_row_id_function
-- The row id: md5 of the row key's values as text, unseparated, NULL as nothing.
-- STABLE, as the text of a time depends on DateStyle and that of a number on extra_float_digits, both of which every
-- loading session sets. Plain SQL, as that is inlined into the COPY.
CREATE OR REPLACE FUNCTION {function}({argument_types}) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN md5(concat({arguments}));

-- name: declare_row_id_immutable
-- A generated column takes nothing less, but asks only when it is made.
ALTER FUNCTION {function}({argument_types}) IMMUTABLE;

-- name: declare_row_id_stable
ALTER FUNCTION {function}({argument_types}) STABLE;

-- name: create_row_id_index
-- A published month does not grow, so its index needs no room to.
CREATE UNIQUE INDEX {index} ON {loading} (unique_row_id) WITH (fillfactor = 100);

-- name: make_row_id_plain
-- From here on the id is stored like any value; the catalogue changes, no row does.
ALTER TABLE {loading} ALTER COLUMN unique_row_id DROP EXPRESSION;

-- name: select_ids_outside_month
SELECT unique_row_id FROM {loading}
WHERE {event_time} < %(start)s OR {event_time} >= %(stop)s OR {event_time} IS NULL;

-- name: select_ids_inside_month
-- What other files hold that could also be in this month's own file: rows of this month, and rows whose time is not
-- written with a year of four digits, as ids are made of unseparated texts: vendor 1 in 22019 reads as 12 in 2019.
SELECT unique_row_id, filename FROM {table}
WHERE {event_time} >= %(start)s AND {event_time} < %(stop)s
   OR {event_time} IS NULL OR {event_time} < '0001-01-01' OR {event_time} >= '10000-01-01';

-- name: select_files_of_ids
SELECT unique_row_id, filename FROM {table} WHERE unique_row_id = ANY(%(ids)s);
