-- name: create_row_id_function
-- The row id: the MD5 of the row key's values as text, without separators, NULL as the empty string.
-- STABLE, because the text of a time depends on DateStyle and that of a number on extra_float_digits; every session
-- that loads sets both. LANGUAGE sql, so that it is inlined into the COPY.
CREATE OR REPLACE FUNCTION {row_id_function}({row_key_types}) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN md5(concat({row_id_arguments}));

-- name: declare_row_id_immutable
-- A generated column requires an immutable function, but only when it is created.
ALTER FUNCTION {row_id_function}({row_key_types}) IMMUTABLE;

-- name: declare_row_id_stable
ALTER FUNCTION {row_id_function}({row_key_types}) STABLE;

-- name: create_savepoint
SAVEPOINT before_index;

-- name: rollback_to_savepoint
ROLLBACK TO SAVEPOINT before_index;

-- name: create_row_id_index
-- A published month does not grow, so its index needs no free space.
CREATE UNIQUE INDEX {index} ON {loading} (unique_row_id) WITH (fillfactor = 100);

-- name: drop_row_id_expression
-- Makes the id an ordinary column; changes the catalogue only, not the rows.
ALTER TABLE {loading} ALTER COLUMN unique_row_id DROP EXPRESSION;

-- name: select_file_checksums
-- The same 40 bits as in BigQuery.
SELECT {event_time}::date, count(*),
       sum(('x' || left(unique_row_id, 10))::bit(40)::bigint), sum(('x' || right(unique_row_id, 10))::bit(40)::bigint),
       sum(('x' || left(md5(unique_row_id || {comparable_text}), 10))::bit(40)::bigint),
       {checksums}
FROM {table} WHERE filename = %(filename)s GROUP BY 1;

-- name: create_loading_table
-- The table that a month is loaded into before it is attached. The id is computed as rows are inserted.
CREATE TABLE {loading} (
    unique_row_id text COLLATE "C" NOT NULL GENERATED ALWAYS AS ({row_id_function}({key_values})) STORED,
    filename text NOT NULL DEFAULT {filename} CONSTRAINT one_file CHECK (filename = {filename}),
    {columns}
);

-- name: identify_loading_rows
-- Rows are identified by all their values; otherwise, repeated rows in a publication for all tables could not be deleted.
ALTER TABLE {loading} REPLICA IDENTITY FULL;

-- name: copy_rows
COPY {table} ({columns}) FROM STDIN WITH (FORMAT csv, ENCODING 'UTF8');

-- name: copy_binary_rows
COPY {table} ({columns}) FROM STDIN WITH (FORMAT binary);

-- name: copy_plain_rows
-- Rows without quotes and backslashes are equal in the CSV and the text format; PostgreSQL parses the latter faster.
COPY {table} ({columns}) FROM STDIN WITH (FORMAT text, DELIMITER ',', NULL '', ENCODING 'UTF8');

-- name: create_event_time_index
-- Small and fast to build; lets queries for a range of dates skip other months.
CREATE INDEX {index} ON {loading} USING brin ({event_time});

-- name: rename_table
ALTER TABLE {table} RENAME TO {name};

-- name: rename_index
ALTER INDEX {index} RENAME TO {name};

-- name: lock_table_to_attach_partition
LOCK TABLE ONLY {table} IN SHARE UPDATE EXCLUSIVE MODE;

-- name: attach_partition
ALTER TABLE {table} ATTACH PARTITION {partition} FOR VALUES IN ({filename});

-- name: drop_filename_check
-- The partition bound now implies the check, which only saved ATTACH a scan.
ALTER TABLE {partition} DROP CONSTRAINT one_file;

-- name: detach_partition
ALTER TABLE {table} DETACH PARTITION {partition};
