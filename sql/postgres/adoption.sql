-- name: lock_table
LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE;

-- name: survey_old_table
-- For each file in the table: its rows, and how many of them have an id that differs from the computed one.
SELECT filename, count(*), count(*) FILTER (WHERE unique_row_id IS DISTINCT FROM {row_id_function}({key_values}))
FROM {kept} GROUP BY filename ORDER BY filename;

-- name: create_filename_index
-- Avoids a scan of the whole table for each file; small, as all rows of a file have the same key.
CREATE INDEX {index} ON {kept} (filename);

-- name: drop_index
DROP INDEX {index};

-- name: copy_old_rows
INSERT INTO {loading} ({columns}) SELECT {columns} FROM {kept} WHERE filename = {filename};
