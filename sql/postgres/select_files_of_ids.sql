SELECT unique_row_id, filename FROM {table} WHERE unique_row_id = ANY(%(ids)s)
