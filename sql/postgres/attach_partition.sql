ALTER TABLE {table} ATTACH PARTITION {partition} FOR VALUES IN ({filename})
