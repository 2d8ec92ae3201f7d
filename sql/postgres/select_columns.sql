-- The relation's kind and columns, in order; types spelt as in the catalogue.
SELECT class.relkind::text, attribute.attname::text, format_type(attribute.atttypid, attribute.atttypmod)
FROM pg_class AS class
JOIN pg_attribute AS attribute ON attribute.attrelid = class.oid AND attribute.attnum > 0 AND NOT attribute.attisdropped
WHERE class.oid = to_regclass(%(table)s)
ORDER BY attribute.attnum
