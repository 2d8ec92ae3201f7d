-- name: create_lock
-- A single row, even if concurrent loads run this statement; its token identifies the last change of the ledger.
CREATE TABLE IF NOT EXISTS {lock} OPTIONS (description = 'Lets one load or forget at a time change the ledger.')
AS SELECT '{name}' AS ledger, GENERATE_UUID() AS token;

-- name: select_snapshot
-- BigQuery's LEFT JOIN requires an equality of columns from both sides. An older version's ledger may lack columns.
SELECT lock.token, ledger.*
FROM {lock} AS lock
LEFT JOIN (
    SELECT '{name}' AS locked, * FROM {ledger}
    WHERE target_table = @target_table AND partition_key = @partition_key
) AS ledger ON ledger.locked = lock.ledger;

-- name: select_loaded
SELECT * FROM {ledger} ORDER BY target_table, partition_key;

-- name: delete_entry
DELETE FROM {ledger} WHERE target_table = @target_table AND partition_key = @partition_key;

-- name: insert_entry
-- rows_loaded is counted in the table. finished_at is never before started_at, even if clocks differ.
INSERT INTO {ledger} ({entry_columns}, rows_loaded, rows_duplicate, finished_at)
SELECT {entry_values}, loaded.found, @rows_read - loaded.found, GREATEST(@started_at, CURRENT_TIMESTAMP())
FROM (SELECT COUNT(*) AS found FROM {table} AS loaded_row WHERE {loaded_rows}) AS loaded;

-- name: begin_transaction
-- https://cloud.google.com/bigquery/docs/transactions
BEGIN TRANSACTION;

-- name: commit_transaction
COMMIT TRANSACTION;

-- name: take_lock
-- Two transactions that change this row conflict, so that BigQuery cancels one of them; inserts do not conflict.
UPDATE {lock} SET token = @load_id WHERE token = @expected_token;

-- name: assert_lock
-- Fails and rolls the transaction back if the ledger has changed since the snapshot.
ASSERT EXISTS (SELECT 1 FROM {lock} WHERE token = @load_id) AS 'another load or forget came first';
