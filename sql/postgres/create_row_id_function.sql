-- The row id: md5 of the row key's values as text, unseparated, NULL as nothing.
-- STABLE, as the text of a time depends on DateStyle and that of a number on extra_float_digits, both of which every
-- loading session sets. Plain SQL, as that is inlined into the COPY.
CREATE OR REPLACE FUNCTION {function}({argument_types}) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN md5(concat({arguments}))
