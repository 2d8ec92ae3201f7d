-- Of rows with one id, the first in the order of their text stays: the same row, however the streams interleaved.
WITH repeated AS (
    SELECT unique_row_id FROM {loading} GROUP BY unique_row_id HAVING count(*) > 1
), ranked AS (
    SELECT loading.ctid, row_number() OVER (PARTITION BY unique_row_id ORDER BY loading::text COLLATE "C") AS nth
    FROM {loading} AS loading JOIN repeated USING (unique_row_id)
), moved AS (
    DELETE FROM {loading} AS loading USING ranked
    WHERE loading.ctid = ranked.ctid AND ranked.nth > 1
    RETURNING loading.*
)
INSERT INTO {quarantine} (target_table, filename, reason, detail, unique_row_id, row_values)
SELECT %(target_table)s, filename, 'duplicate_in_file', 'its id is in the file more than once',
       unique_row_id, to_jsonb(moved)
FROM moved
