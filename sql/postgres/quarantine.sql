-- name: create_load_quarantine
-- Complete rows that are in a file but not in its table, each with the reason.
CREATE TABLE IF NOT EXISTS {quarantine} (
    target_table     text NOT NULL,
    filename         text NOT NULL,
    reason           text NOT NULL CHECK (reason IN ('malformed', 'duplicate_in_file', 'duplicate_of_other_file')),
    detail           text NOT NULL,
    line_number      bigint,
    line             text,
    unique_row_id    text,
    row_values       jsonb,
    quarantined_at   timestamptz NOT NULL DEFAULT now()
);

-- name: identify_quarantined_rows
-- Rows have no key, so they are identified by all their values; otherwise, rows in a publication could not be deleted.
ALTER TABLE {quarantine} REPLICA IDENTITY FULL;

-- name: create_quarantine_index
CREATE INDEX IF NOT EXISTS {index} ON {quarantine} (target_table, filename);

-- name: quarantine_malformed_rows
COPY {quarantine} (target_table, filename, reason, detail, line_number, line) FROM STDIN WITH (FORMAT csv);

-- name: resolve_repeated_ids
-- Of rows that are equal in every column, one is kept. Different rows with the same key are all kept: the last one in
-- the order of their text has the id of the key, the id of each other one also includes its position in that order,
-- counted from the last. So ids depend neither on the order of rows in the file nor on the interleaving of streams.
-- The quoted names cannot be those of columns: `loading` alone would be the column, and `place` would be ambiguous.
WITH repeated AS (
    SELECT unique_row_id FROM {loading} GROUP BY unique_row_id HAVING count(*) > 1
), ranked AS (
    SELECT "#row".ctid,
           row_number() OVER (PARTITION BY unique_row_id, "#row"::text) AS "#copy",
           dense_rank() OVER (
               PARTITION BY unique_row_id
               ORDER BY ({row_text}) COLLATE "C" DESC, "#row"::text COLLATE "C" DESC
           ) AS "#place"
    FROM {loading} AS "#row" JOIN repeated USING (unique_row_id)
), "#moved" AS (
    DELETE FROM {loading} AS "#row" USING ranked
    WHERE "#row".ctid = ranked.ctid AND ranked."#copy" > 1
    RETURNING "#row".*, ranked."#place"
), numbered AS (
    UPDATE {loading} AS "#row" SET unique_row_id = md5({key_text} || '#' || "#place") FROM ranked
    WHERE "#row".ctid = ranked.ctid AND ranked."#copy" = 1 AND ranked."#place" > 1
)
INSERT INTO {quarantine} (target_table, filename, reason, detail, unique_row_id, row_values)
SELECT {table_name}, filename, 'duplicate_in_file', 'the same row is in the file more than once',
       kept.row_id, to_jsonb("#moved") - '#place' || jsonb_build_object('unique_row_id', kept.row_id)
FROM "#moved" CROSS JOIN LATERAL (
    SELECT CASE WHEN "#place" = 1 THEN unique_row_id ELSE md5({key_text} || '#' || "#place") END AS row_id
) AS kept;

-- name: quarantine_duplicates_of_other_files
-- Equal ids imply equal event times, so only rows outside their own file's month can have the id of a row in another
-- file: rows of this file outside the month, and rows of other files inside it. So can rows whose year does not have
-- four digits, because ids are made of texts without separators: vendor 1 in 22019 reads like vendor 12 in 2019.
-- There are few of all these; as arrays, their ids are looked up in the indexes.
WITH outside AS (
    SELECT unique_row_id FROM {loading}
    WHERE {event_time} < %(start)s OR {event_time} >= %(stop)s OR {event_time} IS NULL
), taken AS (
    SELECT unique_row_id, filename FROM {table} WHERE unique_row_id = ANY(ARRAY(SELECT unique_row_id FROM outside))
    UNION
    SELECT unique_row_id, filename FROM {table}
    WHERE {event_time} >= %(start)s AND {event_time} < %(stop)s
       OR {event_time} IS NULL OR {event_time} < '0001-01-01' OR {event_time} >= '10000-01-01'
), "#moved" AS (
    DELETE FROM {loading} WHERE unique_row_id = ANY(ARRAY(SELECT unique_row_id FROM taken)) RETURNING *
)
INSERT INTO {quarantine} (target_table, filename, reason, detail, unique_row_id, row_values)
SELECT {table_name}, "#moved".filename, 'duplicate_of_other_file', {kept_in} || taken.filename,
       unique_row_id, to_jsonb("#moved")
FROM "#moved" JOIN taken USING (unique_row_id);

-- name: count_orphaned_duplicates
-- How many rows of each file were set aside because another file had them, and are missing now. The other file still has
-- them unless it was forgotten or loaded since. Materialized, and looked up in a hash table, because the planner has no
-- statistics of months that have just been loaded, and would search them once for each row.
WITH loads AS (
    SELECT filename, finished_at FROM unnest(%(filenames)s::text[], %(finished_at)s::timestamptz[])
        AS loads (filename, finished_at)
), aside AS MATERIALIZED (
    SELECT unique_row_id, quarantined.filename
    FROM {quarantine} AS quarantined LEFT JOIN loads ON detail = {kept_in} || loads.filename
    WHERE target_table = {table_name} AND reason = 'duplicate_of_other_file'
      AND (finished_at IS NULL OR finished_at > quarantined_at)
), loaded AS MATERIALIZED (
    SELECT unique_row_id FROM {table} WHERE unique_row_id = ANY(ARRAY(SELECT unique_row_id FROM aside))
)
SELECT filename, count(*) FROM aside
WHERE unique_row_id NOT IN (SELECT unique_row_id FROM loaded)
GROUP BY filename ORDER BY filename;

-- name: clear_quarantine
DELETE FROM {quarantine} WHERE target_table = {table_name} AND filename = {filename};
