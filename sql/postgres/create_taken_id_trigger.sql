-- A unique index spans one partition only; this keeps ids unique across all of them.
CREATE OR REPLACE TRIGGER refuse_taken_id
AFTER INSERT OR UPDATE OF unique_row_id ON {table}
FOR EACH ROW EXECUTE FUNCTION {function}({table_name})
