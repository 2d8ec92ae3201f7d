-- name: select_file_checksums
-- An INT64 can hold the sum of 40-bit numbers for eight million rows per day.
SELECT DATE(loaded.{event_time}) AS day, COUNT(*),
    SUM(CAST(CONCAT('0x', SUBSTR(TO_HEX(unique_row_id), 1, 10)) AS INT64)),
    SUM(CAST(CONCAT('0x', SUBSTR(TO_HEX(unique_row_id), 23)) AS INT64)),
    {checksums}
FROM {table} AS loaded WHERE loaded.filename = @filename AND {loaded_days} GROUP BY 1;
