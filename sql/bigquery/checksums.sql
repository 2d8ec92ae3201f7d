-- name: select_file_checksums
-- An INT64 holds the sum of 40 bits of eight million rows a day.
SELECT DATE(loaded.{event_time}) AS day, COUNT(*),
    SUM(CAST(CONCAT('0x', SUBSTR(TO_HEX(unique_row_id), 1, 10)) AS INT64)),
    SUM(CAST(CONCAT('0x', SUBSTR(TO_HEX(unique_row_id), 23)) AS INT64)),
    {checksums}
FROM {table} AS loaded WHERE loaded.filename = @filename AND {loaded_days} GROUP BY 1;
