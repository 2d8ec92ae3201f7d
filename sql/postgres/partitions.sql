-- name: create_loading_table
-- A month in the making: nobody sees it until it is attached. The id is computed while rows come in.
CREATE TABLE {loading} (
    unique_row_id text COLLATE "C" NOT NULL GENERATED ALWAYS AS ({function}({key_values})) STORED,
    filename text NOT NULL DEFAULT {filename} CONSTRAINT one_file CHECK (filename = {filename}),
    {columns}
);

-- name: create_event_time_index
-- Small and quick to build; lets a query for some dates pass over the other months.
CREATE INDEX {index} ON {loading} USING brin ({event_time});

-- name: rename_table
ALTER TABLE {table} RENAME TO {name};

-- name: rename_index
ALTER INDEX {index} RENAME TO {name};

-- name: attach_partition
ALTER TABLE {table} ATTACH PARTITION {partition} FOR VALUES IN ({filename});

-- name: drop_filename_check
-- The partition's own bound says the same from now on; the check only spared ATTACH a scan.
ALTER TABLE {partition} DROP CONSTRAINT one_file;

-- name: detach_partition
ALTER TABLE {table} DETACH PARTITION {partition};
