-- The row id: md5 of the row key's values as text, unseparated, NULL as nothing.
-- IMMUTABLE holds for sessions with DateStyle ISO and extra_float_digits >= 1, which every loading session sets.
CREATE OR REPLACE FUNCTION {function}({argument_types}) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$ BEGIN RETURN md5(concat({arguments})); END $$
