"""SQL statements: Google's analyzer checks them, sqlglot translates them and DuckDB runs them."""

from __future__ import annotations

import functools
import re
import uuid

import duckdb
import sqlglot
from sqlglot import exp
from sqlglot.parsers.bigquery import BigQueryParser

from . import analyzer
from .errors import ApiError, not_found, unsupported
from .tables import Tables
from .values import duckdb_type, quoted

# Joins with the elements of an array are written UNNEST here; to look for others takes most of the time of parsing.
BigQueryParser.SUPPORTS_IMPLICIT_UNNEST = False


def duckdb_sql(tree):
    """The SQL text of a DuckDB tree, which is kept in the tree."""
    if "text" not in tree.meta:
        tree.meta["text"] = tree.sql("duckdb", unsupported_level=sqlglot.ErrorLevel.RAISE)
    return tree.meta["text"]


@functools.cache
def data_type(text):
    """A DuckDB type, which must be copied to be put into a tree."""
    return exp.DataType.build(text, dialect="duckdb")


class Sql(Tables):
    """Tables that understand GoogleSQL; each kind of statement has its `do_` method."""

    def resolve(self, table, context):
        """The project, dataset and table that a name in a statement refers to."""
        parts = [part for part in (table.catalog, table.db, table.name) if part]
        parts = ".".join(parts).split(".")
        if len(parts) == 1:
            if not context.get("dataset"):
                raise ApiError(
                    400, "invalid", f'Table "{parts[0]}" must be qualified with a dataset (e.g. dataset.table).'
                )
            return (context["dataset"][0], context["dataset"][1], parts[0])
        return (context["project"], *parts) if len(parts) == 2 else tuple(parts)

    def translate(self, ast, context, references):
        """Turns a GoogleSQL tree into a DuckDB tree, where sqlglot's own translation would change the meaning.

        Appends the tables in it to `references`.
        """
        ctes = {cte.alias.lower() for cte in ast.find_all(exp.CTE)}
        for table in list(ast.find_all(exp.Table)):
            if isinstance(table.this, exp.Identifier) and not (not table.db and table.name.lower() in ctes):
                key = self.resolve(table, context)
                references.append(key)
                alias = table.alias or (
                    key[2] if not isinstance(table.parent, (exp.Create, exp.Schema, exp.Drop)) else None
                )
                table.replace(
                    exp.Table(
                        this=exp.to_identifier(key[2], quoted=True),
                        db=exp.to_identifier(f"{key[0]}.{key[1]}", quoted=True),
                        alias=exp.TableAlias(this=exp.to_identifier(alias, quoted=True)) if alias else None,
                        joins=table.args.get("joins"),
                        pivots=table.args.get("pivots"),
                    )
                )

        def fix(node):
            if isinstance(node, exp.DataType) and node.this == exp.DataType.Type.DECIMAL and not node.expressions:
                return data_type("DECIMAL(38,9)").copy()
            if isinstance(node, (exp.Cast, exp.TryCast)) and node.to.is_type("text"):
                return exp.Anonymous(this="bq_str", expressions=[node.this])
            if isinstance(node, (exp.Cast, exp.TryCast)) and node.to.is_type("bigint"):
                return exp.Anonymous(
                    this="bq_tryint" if isinstance(node, exp.TryCast) else "bq_int", expressions=[node.this]
                )
            if isinstance(node, exp.Extract):  # the time zone of the session is UTC, like BigQuery's default
                node.set("expression", exp.Anonymous(this="bq_same", expressions=[node.expression]))
                return (
                    exp.Paren(this=exp.Add(this=node, expression=exp.Literal.number(1)))
                    if node.name.upper() == "DAYOFWEEK"
                    else node
                )
            if isinstance(node, exp.Format):
                raise unsupported("FORMAT()")
            if isinstance(node, exp.Div) and not isinstance(node, exp.IntDiv):
                return exp.Anonymous(this="bq_div", expressions=[node.this, node.expression])
            # DuckDB counts the boundaries between two times, which are whole units only if there is no smaller one.
            if isinstance(node, exp.TimestampDiff) and node.unit.name.upper() != "MICROSECOND":
                raise unsupported(f"TIMESTAMP_DIFF() in {node.unit}")
            if isinstance(node, exp.Parameter):
                return exp.Cast(
                    this=exp.Placeholder(this=node.name.lower()),
                    to=data_type(context["duckdb_types"][node.name.lower()]).copy(),
                )
            return node

        # From the leaves up: Expression.transform() does not look into what it has replaced, such as nested casts.
        for node in reversed(list(ast.walk())):
            parent, key, index = node.parent, node.arg_key, node.index
            new = fix(node)
            if new is not node and parent is None:
                ast = new
            elif new is not node:
                parent.set(key, new, index)
        return ast

    @functools.lru_cache(256)  # noqa: B019  there is one emulator as long as the process runs
    def parsed(self, sql, project, dataset, duckdb_types):
        """The GoogleSQL tree, DuckDB tree and tables of a statement; they are cached and must not be changed."""
        raw, references = sqlglot.parse_one(sql, read="bigquery"), []
        if isinstance(raw, (exp.Command, exp.Declare)):
            raise unsupported("scripting (DECLARE, SET, ...)")
        context = {"project": project, "dataset": dataset, "duckdb_types": dict(duckdb_types)}
        return raw, self.translate(raw.copy(), context, references), tuple(references)

    def statement(self, sql, query, context, job, dry=False):
        """Checks the statement `sql` and runs it as `query`; returns the fields and rows of a query, otherwise None."""
        types = tuple(sorted(context["duckdb_types"].items()))
        raw, tree, references = self.parsed(query, context["project"], context.get("dataset"), types)
        if not references or not context["location"]:
            context["location"] = context["location"] or next(
                (self.datasets[table[:2]]["location"] for table in references if table[:2] in self.datasets), "US"
            )
        known, scanned = {}, []

        def learn(key):
            name = ".".join(key)
            if name in known or key not in self.tables:
                return
            resource = self.table(*key)
            known[name] = resource["schema"]["fields"]
            scanned.append(resource)
            for dependency in resource.get("_refs", []):
                learn(dependency)

        for key in references:
            if key[:2] in self.datasets or not isinstance(raw, exp.Create):
                self.dataset(key[0], key[1], context["location"])
            learn(key)
        try:
            node = analyzer.check(
                sql,
                {key: value for key, value in known.items() if value},
                context["zetasql_types"],
                context["project"],
                (context.get("dataset") or (None, None))[1],
            )
        except analyzer.InvalidQuery as error:
            match = re.match(r"Table not found: `?([^`;\[]+?)`?(;| \[|$)", str(error))
            if match:
                missing = next(
                    (
                        ".".join(table)
                        for table in references
                        if ".".join(table).endswith(match.group(1).replace("`", "")) and table not in self.tables
                    ),
                    match.group(1),
                )
                raise not_found("Table", missing.replace(".", ":", 1), context["location"]) from None
            raise ApiError(400, "invalidQuery", str(error)) from None
        kind = type(node).__name__.removeprefix("Resolved").removesuffix("Stmt")
        job["statementType"] = {
            "Query": "SELECT",
            "CreateTable": "CREATE_TABLE",
            "CreateTableAsSelect": "CREATE_TABLE_AS_SELECT",
            "CreateView": "CREATE_VIEW",
            "Drop": "DROP_TABLE",
        }.get(kind, kind.upper())
        handler = getattr(self, "do_" + kind.lower(), None)
        if handler is None:
            raise unsupported(f"the statement {kind}")
        scanned_bytes = (
            sum(self.size(table)[1] for table in scanned if table["type"] == "TABLE")
            if not dry and kind in ("Query", "CreateTableAsSelect", "Merge", "Delete", "Insert", "Update", "Assert")
            else 0
        )
        job["totalBytesProcessed"] = job.get("totalBytesProcessed", 0) + scanned_bytes
        if context.get("max_bytes") and job["totalBytesProcessed"] > context["max_bytes"]:
            limit = f"Query exceeded limit for bytes billed: {context['max_bytes']}."
            raise ApiError(400, "bytesBilledLimitExceeded", f"{limit} {job['totalBytesProcessed']} or higher required.")
        if dry:
            return (analyzer.columns(node), []) if kind == "Query" else None
        context["target"] = references[0] if kind != "Query" else context.get("target")
        try:
            return handler(node, tree, raw, context, job, references)
        except duckdb.TransactionException as error:
            name = "{}:{}.{}".format(*references[0])
            message = f"Transaction is aborted due to concurrent update against table {name}. Transaction ID: 1"
            raise ApiError(400, "invalidQuery", f"Query error: {message} at [2:1]") from error
        except (
            duckdb.BinderException,
            duckdb.CatalogException,
            duckdb.ParserException,
            duckdb.NotImplementedException,
        ) as error:
            raise unsupported(f"this (GoogleSQL accepts it, the engine does not): {error}") from error
        except sqlglot.errors.UnsupportedError as error:
            raise unsupported(f"this ({error})") from error
        except duckdb.Error as error:
            raise ApiError(400, "invalidQuery", re.sub(r"^[\w ]+ Error: ", "", str(error)).split("\n")[0]) from error

    def execute(self, tree, context):
        """Runs a DuckDB tree with the parameters that it uses."""
        text = duckdb_sql(tree)
        used = set(re.findall(r"\$(\w+)", text))
        return self.connection.execute(
            text, {key: value for key, value in context["parameters"].items() if key in used}
        )

    def do_query(self, node, tree, raw, context, job, references):
        fields, temporary = analyzer.columns(node), f"_result_{uuid.uuid4().hex}"
        # Through a table with the types of BigQuery, as DuckDB's own result types differ.
        self.fill(temporary, fields, tree, context)
        rows = self.connection.execute(f"SELECT * FROM {temporary} ORDER BY rowid").fetchall()
        self.connection.execute(f"DROP TABLE {temporary}")
        return fields, [dict(enumerate(row)) for row in rows]

    def fill(self, temporary, fields, tree, context):
        """Writes the result of a query into a new temporary table with these columns."""
        query = duckdb_sql(tree)
        columns = ", ".join(f"c{index} {duckdb_type(field)}" for index, field in enumerate(fields))
        self.connection.execute(f"CREATE TEMP TABLE {temporary} ({columns})")
        try:
            self.connection.execute(
                f"INSERT INTO {temporary} {query}",
                {key: value for key, value in context["parameters"].items() if re.search(rf"[$]{key}\b", query)},
            )
        except duckdb.Error:
            self.connection.execute(f"DROP TABLE {temporary}")
            raise

    def target(self, node, context):
        """The project, dataset and table of the table that a statement creates, changes or drops."""
        path = ".".join(node.name_path)
        path = re.sub(rf"^{analyzer.PROJECT}(?=[.])", context["project"], path)
        return self.resolve(exp.Table(this=exp.to_identifier(path)), context)

    def options(self, node, raw):
        """The OPTIONS of a statement: those that are REST properties, and the others."""
        values = {}
        for option in node.option_list:
            if option.name == "expiration_timestamp":
                value = next(each for each in raw.find_all(exp.Property) if each.name == option.name).args["value"]
                tree = self.translate(exp.select(value), {}, [])
                milliseconds = f"SELECT epoch_ms(CAST(({tree.sql('duckdb')}) AS TIMESTAMPTZ))"
                values[option.name] = str(self.connection.execute(milliseconds).fetchall()[0][0])
            elif not hasattr(option.value, "value"):
                raise unsupported(f"the option {option.name} that is not a literal")
            else:
                values[option.name] = analyzer.literal(option.value)
        names = {
            "description": "description",
            "friendly_name": "friendlyName",
            "labels": "labels",
            "expiration_timestamp": "expirationTime",
        }
        properties = {names[key]: values.pop(key) for key in list(values) if key in names}
        return properties | ({"labels": dict(properties["labels"])} if "labels" in properties else {}), values

    def layout(self, node, raw):
        """The REST properties for the partitioning and clustering of a CREATE TABLE."""
        layout = {}
        if getattr(node, "partition_by_list", None):
            by = raw.find(exp.PartitionedByProperty).this
            unit, columns = by.args.get("unit"), list(by.find_all(exp.Column, exp.Identifier))
            if (
                not isinstance(
                    by,
                    (
                        exp.Column,
                        exp.Identifier,
                        exp.Date,
                        exp.TsOrDsToDate,
                        exp.DateTrunc,
                        exp.TimestampTrunc,
                        exp.DatetimeTrunc,
                    ),
                )
                or not columns
            ):
                raise unsupported(f"PARTITION BY {by.sql('bigquery')}")
            layout["timePartitioning"] = {
                "type": unit.name.upper() if unit is not None else "DAY",
                "field": columns[0].name,
            }
        if getattr(node, "cluster_by_list", None):
            layout["clustering"] = {"fields": [column.column.name for column in node.cluster_by_list]}
        return layout

    def definition(self, node):
        """The fields that a CREATE TABLE declares."""
        fields = []
        for column in node.column_definition_list or []:
            field = analyzer.field_of(column.name, column.type)
            annotations = column.annotations
            if annotations is not None:
                field["mode"] = "REQUIRED" if annotations.not_null else field["mode"]
                for option in annotations.option_list or []:
                    if option.name != "description":
                        raise unsupported(f"the column option {option.name}")
                    field["description"] = analyzer.literal(option.value)
            fields.append(field)
        return fields

    def create(self, node, raw, context, fields, kind="TABLE", extra=None):
        """Creates a table; returns False if it exists and the statement has IF NOT EXISTS."""
        key = self.target(node, context)
        if int(node.create_mode) == 2 and key in self.tables:
            return False
        meta, rest = self.options(node, raw)
        if kind == "TABLE" and rest:
            raise unsupported(f"the table options {rest}")
        self.put(
            *key,
            fields,
            kind,
            replace=int(node.create_mode) == 1,
            **{key: value for key, value in meta.items() if value},
            **self.layout(node, raw),
            **(extra(rest) if extra else {}),
        )
        return key

    def do_createtable(self, node, tree, raw, context, job, references):
        self.create(node, raw, context, self.definition(node))

    def do_createtableasselect(self, node, tree, raw, context, job, references):
        key = self.target(node, context)
        fields = [
            field | {"description": declared["description"]} if declared.get("description") else field
            for field, declared in zip(analyzer.columns(node), self.definition(node) or [{}] * 999, strict=False)
        ]
        if len({field["name"].lower() for field in fields}) < len(fields):
            raise ApiError(400, "invalidQuery", "CREATE TABLE has columns with duplicate names")
        if int(node.create_mode) == 2 and key in self.tables:
            return
        temporary = f"_ctas_{uuid.uuid4().hex}"
        self.fill(temporary, fields, tree.expression, context)
        try:
            self.create(node, raw, context, fields)
            self.connection.execute(f"INSERT INTO {quoted(key[0] + '.' + key[1], key[2])} SELECT * FROM {temporary}")
        finally:
            self.connection.execute(f"DROP TABLE {temporary}")

    def do_createview(self, node, tree, raw, context, job, references):
        key, (meta, rest) = self.target(node, context), self.options(node, raw)
        if int(node.create_mode) == 2 and key in self.tables:
            return
        if rest:
            raise unsupported(f"the view options {rest}")
        self.view(
            key,
            analyzer.columns(node),
            raw.expression.sql("bigquery"),
            tree.expression,
            references[1:],
            int(node.create_mode) == 1,
            meta,
        )

    def view(self, key, fields, text, tree, references, replace, meta=None):
        self.put(
            *key,
            fields,
            "VIEW",
            replace=replace,
            view={"query": text, "useLegacySql": False},
            _refs=[reference for reference in references if reference != key],
            **(meta or {}),
        )
        names = ", ".join(quoted(field["name"]) for field in fields)
        self.connection.execute(
            f"CREATE VIEW {quoted(key[0] + '.' + key[1], key[2])} ({names}) AS {tree.sql('duckdb')}"
        )

    def do_altertablesetoptions(self, node, tree, raw, context, job, references):
        meta, rest = self.options(node, raw)
        if rest:
            raise unsupported(f"ALTER TABLE SET OPTIONS {rest}")
        self.table(*self.target(node, context)).update(meta)

    def do_drop(self, node, tree, raw, context, job, references):
        key = self.target(node, context)
        if (
            key in self.tables
            and {"TABLE": "TABLE", "VIEW": "VIEW", "EXTERNAL TABLE": "EXTERNAL", "EXTERNAL": "EXTERNAL"}.get(
                node.object_type.upper()
            )
            != self.tables[key]["type"]
        ):
            raise ApiError(
                400, "invalidQuery", f"{'.'.join(key)} is a {self.tables[key]['type']}, not a {node.object_type}"
            )
        if key in self.tables:
            self.drop(*key)
        elif not node.is_if_exists:
            raise not_found("Table", "{}:{}.{}".format(*key))

    def dml(self, tree, context, job, verb):
        count = self.execute(tree, context).fetchall()[0][0]
        job.setdefault("dmlStats", {"insertedRowCount": 0, "updatedRowCount": 0, "deletedRowCount": 0})[
            verb + "RowCount"
        ] += count

    def do_insert(self, node, tree, raw, context, job, references):
        self.dml(tree, context, job, "inserted")

    def do_update(self, node, tree, raw, context, job, references):
        self.dml(tree, context, job, "updated")

    def do_assert(self, node, tree, raw, context, job, references):
        if not self.execute(tree, context).fetchall()[0][0]:
            raise ApiError(400, "invalidQuery", f"Query error: {node.description} at [3:1]")

    def do_delete(self, node, tree, raw, context, job, references):
        self.dml(tree, context, job, "deleted")

    def do_merge(self, node, tree, raw, context, job, references):
        whens = tree.args["whens"].expressions
        for when in whens:
            if when.args.get("matched"):
                raise unsupported("WHEN MATCHED")
            if isinstance(when.args.get("then"), exp.Insert) and not when.args["then"].args.get("expression"):
                raise unsupported("INSERT ROW")
        text = duckdb_sql(tree) + " RETURNING merge_action"
        actions = [
            row[0]
            for row in self.connection.execute(
                text, {key: value for key, value in context["parameters"].items() if re.search(rf"[$]{key}\b", text)}
            ).fetchall()
        ]
        stats = job.setdefault("dmlStats", {"insertedRowCount": 0, "updatedRowCount": 0, "deletedRowCount": 0})
        for verb in ("INSERT", "UPDATE", "DELETE"):
            stats[verb.lower().rstrip("e") + "edRowCount"] += actions.count(verb)
