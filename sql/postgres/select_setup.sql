-- Whether everything stands, and was made by this version of the spec.
SELECT to_regclass(%(ledger)s) IS NOT NULL
   AND to_regclass(%(quarantine)s) IS NOT NULL
   AND obj_description(to_regclass(%(table)s), 'pg_class') = %(comment)s
