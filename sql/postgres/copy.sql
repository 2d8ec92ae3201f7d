-- name: copy_rows
COPY {table} ({columns}) FROM STDIN WITH (FORMAT csv, ENCODING 'UTF8');

-- name: copy_binary_rows
COPY {table} ({columns}) FROM STDIN WITH (FORMAT binary);

-- name: copy_plain_rows
-- Rows without quotes and backslashes are equal in the CSV and the text format; PostgreSQL parses the latter faster.
COPY {table} ({columns}) FROM STDIN WITH (FORMAT text, DELIMITER ',', NULL '', ENCODING 'UTF8');
