DELETE FROM {ledger} WHERE target_table = %(target_table)s AND partition_key = %(partition_key)s
