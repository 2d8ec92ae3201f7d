CREATE INDEX IF NOT EXISTS {index} ON {quarantine} (target_table, filename)
