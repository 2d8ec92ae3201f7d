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
-- By all their values, as they have no key: rows of a table in a publication cannot be deleted otherwise.
ALTER TABLE {quarantine} REPLICA IDENTITY FULL;

-- name: create_quarantine_index
CREATE INDEX IF NOT EXISTS {index} ON {quarantine} (target_table, filename);

-- name: quarantine_malformed_rows
COPY {quarantine} (target_table, filename, reason, detail, line_number, line) FROM STDIN WITH (FORMAT csv);

-- name: resolve_repeated_ids
-- Of rows that are equal in every column, one is kept. Different rows with the same key are all kept: the last one in
-- the order of their text has the id of the key, the id of each other one also includes its position in that order,
-- counted from the last. So ids depend neither on the order of rows in the file nor on the interleaving of streams.
WITH repeated AS (
    SELECT unique_row_id FROM {loading} GROUP BY unique_row_id HAVING count(*) > 1
), ranked AS (
    SELECT loading.ctid,
           row_number() OVER (PARTITION BY unique_row_id, loading::text) AS copy,
           dense_rank() OVER (
               PARTITION BY unique_row_id
               ORDER BY ({row_text}) COLLATE "C" DESC, loading::text COLLATE "C" DESC
           ) AS place
    FROM {loading} AS loading JOIN repeated USING (unique_row_id)
), moved AS (
    DELETE FROM {loading} AS loading USING ranked
    WHERE loading.ctid = ranked.ctid AND ranked.copy > 1
    RETURNING loading.*, ranked.place AS place_in_key
), numbered AS (
    UPDATE {loading} AS loading SET unique_row_id = md5({key_text} || '#' || ranked.place) FROM ranked
    WHERE loading.ctid = ranked.ctid AND ranked.copy = 1 AND ranked.place > 1
)
INSERT INTO {quarantine} (target_table, filename, reason, detail, unique_row_id, row_values)
SELECT {table_name}, filename, 'duplicate_in_file', 'the same row is in the file more than once',
       kept.row_id, to_jsonb(moved) - 'place_in_key' || jsonb_build_object('unique_row_id', kept.row_id)
FROM moved CROSS JOIN LATERAL (
    SELECT CASE WHEN place_in_key = 1 THEN unique_row_id ELSE md5({key_text} || '#' || place_in_key) END AS row_id
) AS kept;

-- name: quarantine_duplicates_of_other_files
WITH taken AS (
    SELECT * FROM unnest(%(ids)s::text[], %(filenames)s::text[]) AS taken (unique_row_id, kept_in)
), moved AS (
    DELETE FROM {loading} AS loading USING taken
    WHERE loading.unique_row_id = taken.unique_row_id
    RETURNING loading.*, taken.kept_in
)
INSERT INTO {quarantine} (target_table, filename, reason, detail, unique_row_id, row_values)
SELECT {table_name}, filename, 'duplicate_of_other_file', {kept_in} || kept_in,
       unique_row_id, to_jsonb(moved) - 'kept_in'
FROM moved;

-- name: select_duplicates_of_file
SELECT unique_row_id, filename FROM {quarantine}
WHERE target_table = {table_name} AND reason = 'duplicate_of_other_file'
  AND detail = {kept_in} || {filename};

-- name: clear_quarantine
DELETE FROM {quarantine} WHERE target_table = {table_name} AND filename = {filename};
