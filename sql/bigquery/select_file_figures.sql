SELECT DATE(loaded.{event_time}) AS day, COUNT(*),
    SUM(CAST(CAST(CONCAT('0x', SUBSTR(TO_HEX(unique_row_id), 1, 15)) AS INT64) AS NUMERIC)),
    SUM(CAST(CAST(CONCAT('0x', SUBSTR(TO_HEX(unique_row_id), 18)) AS INT64) AS NUMERIC)),
    {figures}
FROM {table} AS loaded WHERE loaded.filename = @filename AND {loaded_days} GROUP BY 1
