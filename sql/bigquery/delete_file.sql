DELETE FROM {table} AS loaded WHERE loaded.filename = @filename AND {loaded_days}
