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
$$
