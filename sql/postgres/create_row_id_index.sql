CREATE UNIQUE INDEX {index} ON {loading} (unique_row_id)
