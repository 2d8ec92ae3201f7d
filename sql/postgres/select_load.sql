SELECT * FROM {ledger} WHERE task_family = %(task_family)s AND partition_key = %(partition_key)s
