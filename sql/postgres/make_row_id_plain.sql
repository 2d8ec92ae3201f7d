-- From here on the id is stored like any value; the catalogue changes, no row does.
ALTER TABLE {loading} ALTER COLUMN unique_row_id DROP EXPRESSION
