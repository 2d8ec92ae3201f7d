-- name: identified_rows
-- The rows of a staged file with their ids; those with nth > 1 repeat an id of the file.
SELECT unique_row_id, {columns}, ROW_NUMBER() OVER (PARTITION BY unique_row_id ORDER BY row_text) AS nth
FROM (SELECT MD5({row_id_text}) AS unique_row_id, {columns}, {row_text} AS row_text FROM {staging});

-- name: merge_file
-- ON FALSE makes this a replacement, in one transaction: what the file had in the table goes, and what it has comes.
MERGE {table} AS loaded
USING (
    SELECT unique_row_id, {columns}
    FROM ({identified_rows}) AS identified
    WHERE nth = 1 AND NOT EXISTS (
        SELECT 1 FROM {table} AS other
        WHERE other.unique_row_id = identified.unique_row_id AND other.filename != @filename AND {other_days}
    )
) AS arriving
ON FALSE
WHEN NOT MATCHED BY SOURCE AND loaded.filename = @filename AND {loaded_days} THEN DELETE
WHEN NOT MATCHED BY TARGET THEN INSERT (unique_row_id, filename, {columns}) VALUES (unique_row_id, @filename, {columns});

-- name: merge_lookup
MERGE {table} AS loaded
USING (SELECT {columns} FROM {staging}) AS arriving
ON FALSE
WHEN NOT MATCHED BY SOURCE THEN DELETE
WHEN NOT MATCHED BY TARGET THEN INSERT ({columns}) VALUES ({columns});

-- name: delete_file
DELETE FROM {table} AS loaded WHERE loaded.filename = @filename AND {loaded_days};

-- name: delete_lookup
DELETE FROM {table} WHERE TRUE;
