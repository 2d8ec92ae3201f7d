INSERT INTO {ledger} (
    task_family, partition_key, target_table, source_url, source_bytes, source_sha256,
    rows_read, rows_loaded, rows_duplicate, rows_rejected, spec_version, started_at, finished_at
) VALUES (
    %(task_family)s, %(partition_key)s, %(target_table)s, %(source_url)s, %(source_bytes)s, %(source_sha256)s,
    %(rows_read)s, %(rows_loaded)s, %(rows_duplicate)s, %(rows_rejected)s, %(spec_version)s,
    %(started_at)s, clock_timestamp()
)
