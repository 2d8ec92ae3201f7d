-- name: create_dbt_build
-- One row at most: what the dbt models in this schema were last built from.
CREATE TABLE IF NOT EXISTS {dbt_build} (
    only_row         boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    models_digest    text NOT NULL,
    loads_digest     text NOT NULL,
    started_at       timestamptz NOT NULL,
    finished_at      timestamptz,
    run_id           text NOT NULL DEFAULT ''
);

-- name: add_dbt_build_columns
-- Of tables that were made before these columns were.
ALTER TABLE {dbt_build} ADD COLUMN IF NOT EXISTS run_id text NOT NULL DEFAULT '';

-- name: select_dbt_build
SELECT * FROM {dbt_build};

-- name: record_dbt_build
INSERT INTO {dbt_build} (models_digest, loads_digest, started_at, finished_at, run_id)
VALUES (%(models_digest)s, %(loads_digest)s, %(started_at)s, %(finished_at)s, %(run_id)s)
ON CONFLICT (only_row) DO UPDATE SET
    models_digest = excluded.models_digest,
    loads_digest = excluded.loads_digest,
    started_at = excluded.started_at,
    finished_at = excluded.finished_at,
    run_id = excluded.run_id;
