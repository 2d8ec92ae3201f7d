-- name: create_dbt_build
-- At most one row: the last build of the dbt models in this schema.
CREATE TABLE IF NOT EXISTS {dbt_build} (
    only_row         boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    models_digest    text NOT NULL,
    loads_digest     text NOT NULL,
    started_at       timestamptz NOT NULL,
    finished_at      timestamptz,
    run_id           text NOT NULL DEFAULT '',
    is_marked        boolean NOT NULL DEFAULT false,
    lookups_digest   text NOT NULL DEFAULT ''
);

-- name: add_dbt_build_columns
-- For tables that earlier versions created without these columns.
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

-- name: select_foreign_relations
-- All kinds of tables and views, but no indexes, sequences or types.
SELECT relname::text FROM pg_class
WHERE relnamespace = to_regnamespace(quote_ident(%(schema)s)) AND relname = ANY(%(names)s)
    AND relkind IN ('r', 'p', 'v', 'm', 'f')
    AND strpos(coalesce(obj_description(oid, 'pg_class'), ''), %(mark)s) = 0
ORDER BY relname;

-- name: count_relations
SELECT count(*) FROM pg_class
WHERE relnamespace = to_regnamespace(quote_ident(%(schema)s)) AND relname = ANY(%(names)s)
    AND relkind IN ('r', 'p', 'v', 'm', 'f');
