INSERT INTO {dbt_build} (models_digest, loads_digest, started_at, finished_at)
VALUES (%(models_digest)s, %(loads_digest)s, %(started_at)s, %(finished_at)s)
ON CONFLICT (only_row) DO UPDATE SET
    models_digest = excluded.models_digest,
    loads_digest = excluded.loads_digest,
    started_at = excluded.started_at,
    finished_at = excluded.finished_at
