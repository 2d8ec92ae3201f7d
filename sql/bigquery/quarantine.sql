-- name: quarantine_duplicates
-- Keeps, whole, the rows of a file that are not in its table, in the place of those kept of the file before.
MERGE {quarantine} AS kept
USING (
    SELECT
        identified.unique_row_id,
        IF(nth > 1, 'duplicate_in_file', 'duplicate_of_other_file') AS reason,
        IF(nth > 1, 'its id is in the file more than once', CONCAT('its id is already there from ', other.filename))
            AS detail,
        TO_JSON_STRING(identified) AS row_values
    FROM ({identified_rows}) AS identified
    LEFT JOIN (
        SELECT other.unique_row_id, other.filename
        FROM {table} AS other WHERE other.filename != @filename AND {other_days}
    ) AS other ON other.unique_row_id = identified.unique_row_id
    WHERE nth > 1 OR other.filename IS NOT NULL
) AS duplicate
ON FALSE
WHEN NOT MATCHED BY SOURCE AND kept.target_table = @target_table AND kept.filename = @filename THEN DELETE
WHEN NOT MATCHED BY TARGET THEN
INSERT (target_table, filename, reason, detail, unique_row_id, row_values, quarantined_at)
VALUES (@target_table, @filename, reason, detail, unique_row_id, row_values, CURRENT_TIMESTAMP());

-- name: clear_quarantine
DELETE FROM {quarantine} WHERE target_table = @target_table AND filename = @filename;
