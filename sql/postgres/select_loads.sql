SELECT * FROM {ledger} ORDER BY target_table, partition_key
