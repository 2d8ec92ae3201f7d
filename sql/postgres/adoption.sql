-- name: lock_table
LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE;

-- name: survey_kept_table
-- Of each file in the table: how many rows, and of how many the id is not the one that is computed here.
SELECT filename, count(*), count(*) FILTER (WHERE unique_row_id IS DISTINCT FROM {function}({key_values}))
FROM {kept} GROUP BY filename ORDER BY filename;

-- name: create_filename_index
-- Spares each file a scan of the whole table; small, as a file's rows share one key.
CREATE INDEX {index} ON {kept} (filename);

-- name: drop_index
DROP INDEX {index};

-- name: copy_kept_rows
INSERT INTO {loading} ({columns}) SELECT {columns} FROM {kept} WHERE filename = {filename};
