INSERT INTO {quarantine} (target_table, filename, reason, detail, line_number, line)
SELECT %(target_table)s, %(filename)s, 'malformed', detail, line_number, line
FROM unnest(%(details)s::text[], %(line_numbers)s::bigint[], %(lines)s::text[]) AS bad (detail, line_number, line)
