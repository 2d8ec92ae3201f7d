-- name: copy_rows
COPY {table} ({columns}) FROM STDIN WITH (FORMAT csv, ENCODING 'UTF8');

-- name: copy_binary_rows
COPY {table} ({columns}) FROM STDIN WITH (FORMAT binary);

-- name: copy_plain_rows
-- Without quotes and backslashes in them, rows read the same in the text format, which PostgreSQL parses faster.
COPY {table} ({columns}) FROM STDIN WITH (FORMAT text, DELIMITER ',', NULL '', ENCODING 'UTF8');
