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
WHEN NOT MATCHED BY TARGET THEN INSERT (unique_row_id, filename, {columns}) VALUES (unique_row_id, @filename, {columns})
