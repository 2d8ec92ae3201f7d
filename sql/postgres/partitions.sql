-- name: create_loading_table
-- The table that a month is loaded into before it is attached. The id is computed as rows are inserted.
CREATE TABLE {loading} (
    unique_row_id text COLLATE "C" NOT NULL GENERATED ALWAYS AS ({row_id_function}({key_values})) STORED,
    filename text NOT NULL DEFAULT {filename} CONSTRAINT one_file CHECK (filename = {filename}),
    {columns}
);

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

-- name: attach_partition
ALTER TABLE {table} ATTACH PARTITION {partition} FOR VALUES IN ({filename});

-- name: drop_filename_check
-- The partition bound now implies the check, which only saved ATTACH a scan.
ALTER TABLE {partition} DROP CONSTRAINT one_file;

-- name: detach_partition
ALTER TABLE {table} DETACH PARTITION {partition};
