SELECT models_digest, loads_digest, started_at, finished_at FROM {dbt_build}
