-- One row at most: what the dbt models in this schema were last built from.
CREATE TABLE IF NOT EXISTS {dbt_build} (
    only_row         boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    models_digest    text NOT NULL,
    loads_digest     text NOT NULL,
    started_at       timestamptz NOT NULL,
    finished_at      timestamptz
)
