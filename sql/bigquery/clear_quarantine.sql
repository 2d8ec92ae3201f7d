DELETE FROM {quarantine} WHERE target_table = @target_table AND filename = @filename
