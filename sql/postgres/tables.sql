-- name: create_schema
CREATE SCHEMA IF NOT EXISTS {schema};

-- name: create_partitioned_table
-- One partition per file, so that a month is added and removed as a whole.
CREATE TABLE IF NOT EXISTS {table} (
    unique_row_id text COLLATE "C" NOT NULL,
    filename text NOT NULL,
    {columns}
) PARTITION BY LIST (filename);

-- name: create_lookup_table
CREATE TABLE IF NOT EXISTS {table} (
    {columns},
    PRIMARY KEY ({row_key})
);

-- name: add_column
-- Existing rows have NULL; changes the catalogue only, not the rows.
ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {column};

-- name: select_columns
-- The relation's kind, comment and columns with their comments; types as spelled in the catalogue.
SELECT class.relkind::text, coalesce(obj_description(class.oid, 'pg_class'), ''),
       attribute.attname::text, format_type(attribute.atttypid, attribute.atttypmod),
       coalesce(col_description(class.oid, attribute.attnum), '')
FROM pg_class AS class
JOIN pg_attribute AS attribute ON attribute.attrelid = class.oid AND attribute.attnum > 0 AND NOT attribute.attisdropped
WHERE class.oid = to_regclass(%(table)s)
ORDER BY attribute.attnum;

-- name: shared_tables_exist
-- Whether the ledger and the quarantine exist as this version of the pipeline creates them.
SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass(%(ledger)s) AND attname = 'last_modified')
   AND EXISTS (SELECT FROM pg_class WHERE oid = to_regclass(%(quarantine)s) AND relreplident = 'f');

-- name: comment_on_table
COMMENT ON TABLE {table} IS {comment};

-- name: comment_on_column
COMMENT ON COLUMN {column} IS {comment};

-- name: create_duplicate_id_function
-- For rows that users insert. Loads check ids themselves and attach partitions that already have their rows.
CREATE OR REPLACE FUNCTION {function}() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended({lock_name}, 0));
    IF (SELECT count(*) FROM {table} WHERE unique_row_id = NEW.unique_row_id) > 1 THEN
        RAISE unique_violation USING
            MESSAGE = format('unique_row_id %s is already in %s', NEW.unique_row_id, TG_ARGV[0]),
            TABLE = TG_TABLE_NAME, SCHEMA = TG_TABLE_SCHEMA, COLUMN = 'unique_row_id';
    END IF;
    RETURN NULL;
END
$$;

-- name: create_duplicate_id_trigger
-- A unique index covers one partition only; this keeps ids unique across partitions.
CREATE OR REPLACE TRIGGER refuse_duplicate_id
AFTER INSERT OR UPDATE OF unique_row_id ON {table}
FOR EACH ROW EXECUTE FUNCTION {function}({table_name});

-- name: delete_rows
DELETE FROM {table};

-- name: drop_table
DROP TABLE IF EXISTS {table};

-- name: lock_table
LOCK TABLE ONLY {table} IN ACCESS EXCLUSIVE MODE;

-- name: survey_old_table
-- For each file in the table: its rows, and how many of them have an id that differs from the computed one.
SELECT filename, count(*), count(*) FILTER (WHERE unique_row_id IS DISTINCT FROM {row_id_function}({key_values}))
FROM {kept} GROUP BY filename ORDER BY filename;

-- name: create_filename_index
-- Avoids a scan of the whole table for each file; small, as all rows of a file have the same key.
CREATE INDEX {index} ON {kept} (filename);

-- name: drop_index
DROP INDEX {index};

-- name: copy_old_rows
INSERT INTO {loading} ({columns}) SELECT {columns} FROM {kept} WHERE filename = {filename};
