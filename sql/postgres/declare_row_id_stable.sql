ALTER FUNCTION {function}({argument_types}) STABLE
