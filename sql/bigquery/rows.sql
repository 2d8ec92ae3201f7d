-- name: select_days
SELECT DISTINCT DATE(`{event_time}`) AS day FROM {staging};

-- name: delete_rows
DELETE FROM {table} AS loaded_row WHERE {loaded_rows};

-- name: identified_rows
-- The rows of a staged file with their ids. Of rows that are equal in every column, all but one have __nth > 1. Of
-- different rows with the same key, the last one in the order of their text has the id of the key; the id of each other
-- one also includes its position in that order, counted from the last.
-- The names with two underscores are not those of columns of a dataset, which are beside them.
SELECT
    MD5(IF(__place = 1, __key, CONCAT(__key, '#', CAST(__place AS STRING)))) AS unique_row_id,
    {columns},
    __nth
FROM (
    SELECT
        {columns},
        __key,
        DENSE_RANK() OVER (PARTITION BY __key ORDER BY __row DESC, __nulls DESC) AS __place,
        ROW_NUMBER() OVER (PARTITION BY __key, __row, __nulls) AS __nth
    FROM (
        SELECT {columns}, {key_text} AS __key, {row_text} AS __row, {null_texts} AS __nulls
        FROM (SELECT {staged_columns} FROM {staging})
    )
);

-- name: insert_file
INSERT INTO {table} (unique_row_id, filename, {columns})
SELECT unique_row_id, @filename, {columns}
FROM ({identified_rows}) AS identified_row
WHERE __nth = 1 AND NOT EXISTS (
    SELECT 1 FROM {table} AS other_row
    WHERE other_row.unique_row_id = identified_row.unique_row_id AND other_row.filename != @filename AND {other_days}
);

-- name: insert_lookup
INSERT INTO {table} ({columns}) SELECT {columns} FROM (SELECT {staged_columns} FROM {staging});

-- name: delete_quarantined
DELETE FROM {quarantine} WHERE target_table = @target_table AND filename = @filename;

-- name: if_duplicates
-- Most files have no duplicates, and searching for them costs as much as the load.
IF EXISTS (SELECT 1 FROM {ledger} WHERE load_id = @load_id AND rows_duplicate > 0) THEN;

-- name: end_if
END IF;

-- name: insert_duplicates
-- Stores the complete rows of a file that are not in its table. Runs after insert_file, so rows of the file itself are
-- excluded from the comparison.
INSERT INTO {quarantine} (target_table, filename, reason, detail, unique_row_id, row_values, quarantined_at)
SELECT
    @target_table,
    @filename,
    IF(__nth > 1, 'duplicate_in_file', 'duplicate_of_other_file'),
    IF(
        __nth > 1,
        'the same row is in the file more than once',
        CONCAT('{kept_in}', other_row.filename)
    ),
    identified_row.unique_row_id,
    TO_JSON_STRING(identified_row),
    CURRENT_TIMESTAMP()
FROM ({identified_rows}) AS identified_row
LEFT JOIN (
    SELECT other_row.unique_row_id, other_row.filename
    FROM {table} AS other_row WHERE other_row.filename != @filename AND {other_days}
) AS other_row ON other_row.unique_row_id = identified_row.unique_row_id
WHERE __nth > 1 OR other_row.filename IS NOT NULL;

-- name: duplicates_of_other_files
-- The rows that were set aside because another file had them.
SELECT filename, unique_row_id, SAFE_CAST(SUBSTR(JSON_VALUE(row_values, '$.{event_time}'), 1, 10) AS DATE) AS day
FROM {quarantine}
WHERE target_table = @target_table AND reason = 'duplicate_of_other_file';

-- name: select_days_of_duplicates
SELECT DISTINCT day FROM ({duplicates}) AS aside_row;

-- name: count_orphaned_duplicates
SELECT filename, COUNT(*) AS found FROM ({duplicates}) AS aside_row
WHERE NOT EXISTS (
    SELECT 1 FROM {table} AS loaded_row WHERE loaded_row.unique_row_id = aside_row.unique_row_id AND {loaded_days}
)
GROUP BY filename ORDER BY filename;

-- name: assert_accounted
ASSERT (SELECT rows_duplicate FROM {ledger} WHERE load_id = @load_id)
    = (SELECT COUNT(*) FROM {quarantine} WHERE target_table = @target_table AND filename = @filename)
AS 'rows are neither loaded nor in the quarantine';

-- name: select_file_checksums
-- The sums are NUMERIC, as an INT64 may overflow with eight million rows of a day or without a time.
SELECT DATE(loaded_row.`{event_time}`) AS day, COUNT(*),
    SUM(CAST(CAST(CONCAT('0x', SUBSTR(TO_HEX(unique_row_id), 1, 10)) AS INT64) AS NUMERIC)),
    SUM(CAST(CAST(CONCAT('0x', SUBSTR(TO_HEX(unique_row_id), 23)) AS INT64) AS NUMERIC)),
    SUM(CAST(CAST(CONCAT('0x', SUBSTR(TO_HEX(MD5(CONCAT(TO_HEX(unique_row_id), {comparable_text}))), 1, 10)) AS INT64)
        AS NUMERIC)),
    {checksums}
FROM {table} AS loaded_row WHERE {loaded_rows} GROUP BY 1;
