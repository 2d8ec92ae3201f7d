-- One row for each file that is loaded: the marker that tasks look for.
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
)
