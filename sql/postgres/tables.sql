-- name: create_schema
CREATE SCHEMA IF NOT EXISTS {schema};

-- name: create_partitioned_table
-- One partition a file, so that a month comes and goes as a whole.
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
-- Rows that are there read as NULL; the catalogue changes, no row does.
ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {column};

-- name: select_columns
-- The relation's kind, its comment and its columns; types spelt as in the catalogue.
SELECT class.relkind::text, coalesce(obj_description(class.oid, 'pg_class'), ''),
       attribute.attname::text, format_type(attribute.atttypid, attribute.atttypmod)
FROM pg_class AS class
JOIN pg_attribute AS attribute ON attribute.attrelid = class.oid AND attribute.attnum > 0 AND NOT attribute.attisdropped
WHERE class.oid = to_regclass(%(table)s)
ORDER BY attribute.attnum;

-- name: select_setup
-- Whether everything stands, and was made by this version of the spec.
SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass(%(ledger)s) AND attname = 'last_modified')
   AND to_regclass(%(quarantine)s) IS NOT NULL
   AND obj_description(to_regclass(%(table)s), 'pg_class') = %(comment)s;

-- name: comment_on_table
COMMENT ON TABLE {table} IS {comment};

-- name: comment_on_column
COMMENT ON COLUMN {column} IS {comment};

-- name: create_duplicate_id_function
-- For rows that come in by hand: loading sees to it by itself, and its partitions are attached with their rows in them.
CREATE OR REPLACE FUNCTION {function}() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended({lock_name}, 0));
    IF (SELECT count(*) FROM {table} WHERE unique_row_id = NEW.unique_row_id) > 1 THEN
        RAISE unique_violation USING
            MESSAGE = format('unique_row_id %s is in %s already', NEW.unique_row_id, TG_ARGV[0]),
            TABLE = TG_TABLE_NAME, SCHEMA = TG_TABLE_SCHEMA, COLUMN = 'unique_row_id';
    END IF;
    RETURN NULL;
END
$$;

-- name: create_duplicate_id_trigger
-- A unique index spans one partition only; this keeps ids unique across all of them.
CREATE OR REPLACE TRIGGER refuse_duplicate_id
AFTER INSERT OR UPDATE OF unique_row_id ON {table}
FOR EACH ROW EXECUTE FUNCTION {function}({table_name});

-- name: delete_rows
DELETE FROM {table};

-- name: drop_table
DROP TABLE IF EXISTS {table};
