DELETE FROM {quarantine} WHERE target_table = %(target_table)s AND filename = %(filename)s
