-- A generated column takes nothing less, but asks only when it is made.
ALTER FUNCTION {function}({argument_types}) IMMUTABLE
