-- name: create_loading_table
-- The table that a month is loaded into before it is attached. The id is computed as rows are inserted.
CREATE TABLE {loading} (
    unique_row_id text COLLATE "C" NOT NULL GENERATED ALWAYS AS ({function}({key_values})) STORED,
    filename text NOT NULL DEFAULT {filename} CONSTRAINT one_file CHECK (filename = {filename}),
    {columns}
);

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
