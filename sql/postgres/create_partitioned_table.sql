-- One partition a file, so that a month comes and goes as a whole.
CREATE TABLE IF NOT EXISTS {table} (
    unique_row_id text COLLATE "C" NOT NULL,
    filename text NOT NULL,
    {columns}
) PARTITION BY LIST (filename)
