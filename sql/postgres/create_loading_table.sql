-- A month in the making: nobody sees it until it is attached. The id is computed while rows come in.
CREATE TABLE {loading} (
    unique_row_id text COLLATE "C" NOT NULL GENERATED ALWAYS AS ({function}({row_key})) STORED,
    filename text NOT NULL DEFAULT {filename} CONSTRAINT one_file CHECK (filename = {filename}),
    {columns}
)
