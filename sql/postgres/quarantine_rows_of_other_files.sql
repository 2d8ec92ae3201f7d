WITH taken AS (
    SELECT * FROM unnest(%(ids)s::text[], %(filenames)s::text[]) AS taken (unique_row_id, kept_in)
), moved AS (
    DELETE FROM {loading} AS loading USING taken
    WHERE loading.unique_row_id = taken.unique_row_id
    RETURNING loading.*, taken.kept_in
)
INSERT INTO {quarantine} (target_table, filename, reason, detail, unique_row_id, row_values)
SELECT %(target_table)s, filename, 'duplicate_of_other_file', 'its id is already there from ' || kept_in,
       unique_row_id, to_jsonb(moved) - 'kept_in'
FROM moved
