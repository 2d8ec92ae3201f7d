-- Small and quick to build; lets a query for some dates pass over the other months.
CREATE INDEX {index} ON {loading} USING brin ({event_time})
