-- A published month does not grow, so its index needs no room to.
CREATE UNIQUE INDEX {index} ON {loading} (unique_row_id) WITH (fillfactor = 100)
