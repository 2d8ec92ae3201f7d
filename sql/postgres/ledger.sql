-- name: create_load_ledger
-- One row for each loaded file: the marker that tasks look for.
CREATE TABLE IF NOT EXISTS {ledger} (
    task_family      text NOT NULL,
    partition_key    text NOT NULL,
    target_table     text NOT NULL,
    source_url       text NOT NULL,
    source_bytes     bigint NOT NULL,
    source_sha256    text NOT NULL,
    rows_read        bigint NOT NULL,
    rows_loaded      bigint NOT NULL,
    rows_duplicate   bigint NOT NULL,
    rows_rejected    bigint NOT NULL,
    spec_version     integer NOT NULL,
    started_at       timestamptz NOT NULL,
    finished_at      timestamptz NOT NULL,
    PRIMARY KEY (task_family, partition_key),
    CHECK (rows_read = rows_loaded + rows_duplicate + rows_rejected)
);

-- name: add_ledger_columns
-- Ledgers that earlier versions created lack these columns.
ALTER TABLE {ledger}
    ADD COLUMN IF NOT EXISTS run_id text NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS source text NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS format text NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS etag text NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS last_modified text NOT NULL DEFAULT '';

-- name: record_load
-- In the transaction that makes the rows visible.
INSERT INTO {ledger} (
    task_family, partition_key, target_table, source_url, source_bytes, source_sha256,
    rows_read, rows_loaded, rows_duplicate, rows_rejected, spec_version, started_at, finished_at, run_id,
    source, format, etag, last_modified
) VALUES (
    %(task_family)s, %(partition_key)s, %(target_table)s, %(source_url)s, %(source_bytes)s, %(source_sha256)s,
    %(rows_read)s, %(rows_loaded)s, %(rows_duplicate)s, %(rows_rejected)s, %(spec_version)s,
    %(started_at)s, clock_timestamp(), %(run_id)s,
    %(source)s, %(format)s, %(etag)s, %(last_modified)s
);

-- name: select_load
SELECT * FROM {ledger} WHERE task_family = %(task_family)s AND partition_key = %(partition_key)s;

-- name: select_loads
SELECT * FROM {ledger} ORDER BY target_table, partition_key;

-- name: delete_load
-- The markers of all task families.
DELETE FROM {ledger} WHERE target_table = {table_name} AND partition_key = {partition_key};

-- name: create_dbt_build
-- At most one row: the last build of the dbt models in this schema.
CREATE TABLE IF NOT EXISTS {dbt_build} (
    only_row         boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    models_digest    text NOT NULL,
    loads_digest     text NOT NULL,
    started_at       timestamptz NOT NULL,
    finished_at      timestamptz
);

-- name: add_dbt_build_columns
-- Tables that earlier versions created lack these columns.
ALTER TABLE {dbt_build}
    ADD COLUMN IF NOT EXISTS run_id text NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS is_marked boolean NOT NULL DEFAULT false,
    ADD COLUMN IF NOT EXISTS lookups_digest text NOT NULL DEFAULT '';

-- name: select_dbt_build
SELECT * FROM {dbt_build};

-- name: record_dbt_build
INSERT INTO {dbt_build} (models_digest, loads_digest, started_at, finished_at, run_id, is_marked, lookups_digest)
VALUES (%(models_digest)s, %(loads_digest)s, %(started_at)s, %(finished_at)s, %(run_id)s, %(is_marked)s,
    %(lookups_digest)s)
ON CONFLICT (only_row) DO UPDATE SET
    models_digest = excluded.models_digest,
    loads_digest = excluded.loads_digest,
    started_at = excluded.started_at,
    finished_at = excluded.finished_at,
    run_id = excluded.run_id,
    is_marked = excluded.is_marked,
    lookups_digest = excluded.lookups_digest;

-- name: select_relations
-- The given names that a table or view of any kind has, but not an index, a sequence or a type; with their comments.
SELECT relname::text, coalesce(obj_description(oid, 'pg_class'), '') FROM pg_class
WHERE relnamespace = to_regnamespace(quote_ident(%(schema)s)) AND relname = ANY(%(names)s)
    AND relkind IN ('r', 'p', 'v', 'm', 'f')
ORDER BY relname;
