-- The rows of a staged file with their ids; those with nth > 1 repeat an id of the file.
SELECT unique_row_id, {columns}, ROW_NUMBER() OVER (PARTITION BY unique_row_id ORDER BY row_text) AS nth
FROM (SELECT MD5({row_id_text}) AS unique_row_id, {columns}, {row_text} AS row_text FROM {staging})
