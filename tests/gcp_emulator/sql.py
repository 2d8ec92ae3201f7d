"""Statements: checked by Google's analyzer, translated by sqlglot, run by DuckDB."""

from __future__ import annotations

import functools
import re
import uuid

import duckdb
import sqlglot
from sqlglot import exp

from . import analyzer
from .errors import ApiError, not_found, unsupported
from .tables import Tables
from .values import duck_type, q


def duck_sql(tree):
    """A DuckDB tree as text, which is made once."""
    if "text" not in tree.meta:
        tree.meta["text"] = tree.sql("duckdb", unsupported_level=sqlglot.ErrorLevel.RAISE)
    return tree.meta["text"]


@functools.cache
def data_type(text):
    """A type of DuckDB's; whoever puts it into a tree copies it."""
    return exp.DataType.build(text, dialect="duckdb")


class Sql(Tables):
    """Tables that understand GoogleSQL; each kind of statement has its `do_` method."""

    def resolve(self, t, ctx):
        """(project, dataset, table) of a table in a statement."""
        parts = [x for x in (t.catalog, t.db, t.name) if x]
        parts = ".".join(parts).split(".")
        if len(parts) == 1:
            if not ctx.get("dataset"):
                raise ApiError(
                    400, "invalid", f'Table "{parts[0]}" must be qualified with a dataset (e.g. dataset.table).'
                )
            return (ctx["dataset"][0], ctx["dataset"][1], parts[0])
        return (ctx["project"], *parts) if len(parts) == 2 else tuple(parts)

    def translate(self, ast, ctx, refs):
        """GoogleSQL tree -> DuckDB tree, in place where sqlglot's own translation would change the meaning."""
        ctes = {c.alias.lower() for c in ast.find_all(exp.CTE)}
        for t in list(ast.find_all(exp.Table)):
            if isinstance(t.this, exp.Identifier) and not (not t.db and t.name.lower() in ctes):
                key = self.resolve(t, ctx)
                refs.append(key)
                alias = t.alias or (key[2] if not isinstance(t.parent, (exp.Create, exp.Schema, exp.Drop)) else None)
                t.replace(
                    exp.Table(
                        this=exp.to_identifier(key[2], quoted=True),
                        db=exp.to_identifier(f"{key[0]}.{key[1]}", quoted=True),
                        alias=exp.TableAlias(this=exp.to_identifier(alias, quoted=True)) if alias else None,
                        joins=t.args.get("joins"),
                        pivots=t.args.get("pivots"),
                    )
                )

        def fix(n):
            if isinstance(n, exp.DataType) and n.this == exp.DataType.Type.DECIMAL and not n.expressions:
                return data_type("DECIMAL(38,9)").copy()
            if isinstance(n, (exp.Cast, exp.TryCast)) and n.to.is_type("text"):
                return exp.Anonymous(this="bq_str", expressions=[n.this])
            if isinstance(n, (exp.Cast, exp.TryCast)) and n.to.is_type("bigint"):
                return exp.Anonymous(this="bq_tryint" if isinstance(n, exp.TryCast) else "bq_int", expressions=[n.this])
            if isinstance(n, exp.Extract):  # the session's zone is UTC, as BigQuery's default is
                n.set("expression", exp.Anonymous(this="bq_same", expressions=[n.expression]))
                return (
                    exp.Paren(this=exp.Add(this=n, expression=exp.Literal.number(1)))
                    if n.name.upper() == "DAYOFWEEK"
                    else n
                )
            if isinstance(n, exp.Format):
                raise unsupported("FORMAT()")
            if isinstance(n, exp.Div) and not isinstance(n, exp.IntDiv):
                return exp.Anonymous(this="bq_div", expressions=[n.this, n.expression])
            if isinstance(n, exp.TimestampDiff):
                raise unsupported("TIMESTAMP_DIFF()")
            if isinstance(n, exp.Parameter):
                return exp.Cast(
                    this=exp.Placeholder(this=n.name.lower()),
                    to=data_type(ctx["param_types"][n.name.lower()]).copy(),
                )
            return n

        return ast.transform(fix)

    @functools.lru_cache(256)  # noqa: B019  an emulator lives as long as its process
    def parsed(self, sql, project, dataset, param_types):
        """(GoogleSQL tree, DuckDB tree, tables) of a statement; whoever has them leaves them as they are."""
        raw, refs = sqlglot.parse_one(sql, read="bigquery"), []
        if isinstance(raw, (exp.Command, exp.Declare)):
            raise unsupported("scripting (DECLARE, SET, ...)")
        ctx = {"project": project, "dataset": dataset, "param_types": dict(param_types)}
        return raw, self.translate(raw.copy(), ctx, refs), tuple(refs)

    def statement(self, sql, query, ctx, job, dry=False):
        """Check and run one statement, as what `query` says. Returns (fields, rows) of a query, else None."""
        types = tuple(sorted(ctx["param_types"].items()))
        raw, tree, refs = self.parsed(query, ctx["project"], ctx.get("dataset"), types)
        if not refs or not ctx["location"]:
            ctx["location"] = ctx["location"] or next(
                (self.datasets[r[:2]]["location"] for r in refs if r[:2] in self.datasets), "US"
            )
        known, scanned = {}, []

        def learn(key):
            name = ".".join(key)
            if name in known:
                return
            if key not in self.tables:
                return
            r = self.table(*key)
            known[name] = r["schema"]["fields"]
            scanned.append(r)
            for dep in r.get("_refs", []):
                learn(dep)

        for key in refs:
            if key[:2] in self.datasets or not isinstance(raw, exp.Create):
                self.dataset(key[0], key[1], ctx["location"])
            learn(key)
        try:
            node = analyzer.check(
                sql,
                {k: v for k, v in known.items() if v},
                ctx["zparams"],
                ctx["project"],
                (ctx.get("dataset") or (None, None))[1],
            )
        except analyzer.InvalidQuery as e:
            m = re.match(r"Table not found: `?([^`;\[]+?)`?(;| \[|$)", str(e))
            if m:
                missing = next(
                    (
                        ".".join(r)
                        for r in refs
                        if ".".join(r).endswith(m.group(1).replace("`", "")) and r not in self.tables
                    ),
                    m.group(1),
                )
                raise not_found("Table", missing.replace(".", ":", 1), ctx["location"]) from None
            raise ApiError(400, "invalidQuery", str(e)) from None
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
        bytes_ = (
            sum(self.size(r)[1] for r in scanned if r["type"] == "TABLE")
            if not dry and kind in ("Query", "CreateTableAsSelect", "Merge", "Delete", "Insert", "Update", "Assert")
            else 0
        )
        job["totalBytesProcessed"] = job.get("totalBytesProcessed", 0) + bytes_
        if ctx.get("max_bytes") and job["totalBytesProcessed"] > ctx["max_bytes"]:
            limit = f"Query exceeded limit for bytes billed: {ctx['max_bytes']}."
            raise ApiError(400, "bytesBilledLimitExceeded", f"{limit} {job['totalBytesProcessed']} or higher required.")
        if dry:
            return (analyzer.columns(node), []) if kind == "Query" else None
        ctx["target"] = refs[0] if kind != "Query" else ctx.get("target")
        try:
            return handler(node, tree, raw, ctx, job, refs)
        except duckdb.TransactionException as e:
            name = "{}:{}.{}".format(*refs[0])
            message = f"Transaction is aborted due to concurrent update against table {name}. Transaction ID: 1"
            raise ApiError(400, "invalidQuery", f"Query error: {message} at [2:1]") from e
        except (
            duckdb.BinderException,
            duckdb.CatalogException,
            duckdb.ParserException,
            duckdb.NotImplementedException,
        ) as e:
            raise unsupported(f"this (GoogleSQL accepts it, the engine does not): {e}") from e
        except sqlglot.errors.UnsupportedError as e:
            raise unsupported(f"this ({e})") from e
        except duckdb.Error as e:
            raise ApiError(400, "invalidQuery", re.sub(r"^[\w ]+ Error: ", "", str(e)).split("\n")[0]) from e

    def duck(self, tree, ctx):
        text = duck_sql(tree)
        used = set(re.findall(r"\$(\w+)", text))
        return self.con.execute(text, {k: v for k, v in ctx["params"].items() if k in used})

    def do_query(self, node, tree, raw, ctx, job, refs):
        fields, tmp = analyzer.columns(node), f"_result_{uuid.uuid4().hex}"
        self.fill(tmp, fields, tree, ctx)  # through a table of BigQuery's types: the engine's own result types differ
        rows = self.con.execute(f"SELECT * FROM {tmp} ORDER BY rowid").fetchall()
        self.con.execute(f"DROP TABLE {tmp}")
        return fields, [dict(enumerate(r)) for r in rows]

    def fill(self, tmp, fields, tree, ctx):
        """Run a query into a new temporary table with exactly these columns."""
        body = duck_sql(tree)
        self.con.execute(
            f"CREATE TEMP TABLE {tmp} ({', '.join(f'c{i} ' + duck_type(f) for i, f in enumerate(fields))})"
        )
        try:
            self.con.execute(
                f"INSERT INTO {tmp} {body}", {k: v for k, v in ctx["params"].items() if re.search(rf"[$]{k}\b", body)}
            )
        except duckdb.Error:
            self.con.execute(f"DROP TABLE {tmp}")
            raise

    def target(self, node, ctx):
        path = ".".join(node.name_path)
        path = re.sub(rf"^{analyzer.PROJECT}(?=[.])", ctx["project"], path)
        return self.resolve(exp.Table(this=exp.to_identifier(path)), ctx)

    def options(self, node, raw):
        """(REST properties, other options) of a statement's OPTIONS."""
        o = {}
        for x in node.option_list:
            if x.name == "expiration_timestamp":
                value = next(p for p in raw.find_all(exp.Property) if p.name == x.name).args["value"]
                tree = self.translate(exp.select(value), {}, [])
                o[x.name] = str(
                    self.con.execute(f"SELECT epoch_ms(CAST(({tree.sql('duckdb')}) AS TIMESTAMPTZ))").fetchall()[0][0]
                )
            elif not hasattr(x.value, "value"):
                raise unsupported(f"the option {x.name} that is not a literal")
            else:
                o[x.name] = analyzer.literal(x.value)
        names = {
            "description": "description",
            "friendly_name": "friendlyName",
            "labels": "labels",
            "expiration_timestamp": "expirationTime",
        }
        out = {names[k]: o.pop(k) for k in list(o) if k in names}
        return out | ({"labels": dict(out["labels"])} if "labels" in out else {}), o

    def layout(self, node, raw):
        """timePartitioning and clustering of CREATE TABLE."""
        out = {}
        if getattr(node, "partition_by_list", None):
            by = raw.find(exp.PartitionedByProperty).this
            unit, named = by.args.get("unit"), list(by.find_all(exp.Column, exp.Identifier))
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
                or not named
            ):
                raise unsupported(f"PARTITION BY {by.sql('bigquery')}")
            out["timePartitioning"] = {"type": unit.name.upper() if unit is not None else "DAY", "field": named[0].name}
        if getattr(node, "cluster_by_list", None):
            out["clustering"] = {"fields": [c.column.name for c in node.cluster_by_list]}
        return out

    def definition(self, node):
        fields = []
        for c in node.column_definition_list or []:
            f = analyzer.field_of(c.name, c.type)
            a = c.annotations
            if a is not None:
                f["mode"] = "REQUIRED" if a.not_null else f["mode"]
                for opt in a.option_list or []:
                    if opt.name != "description":
                        raise unsupported(f"the column option {opt.name}")
                    f["description"] = analyzer.literal(opt.value)
            fields.append(f)
        return fields

    def create(self, node, raw, ctx, fields, kind="TABLE", extra=None):
        """False when IF NOT EXISTS finds the table."""
        key = self.target(node, ctx)
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
            **{k: v for k, v in meta.items() if v},
            **self.layout(node, raw),
            **(extra(rest) if extra else {}),
        )
        return key

    def do_createtable(self, node, tree, raw, ctx, job, refs):
        self.create(node, raw, ctx, self.definition(node))

    def do_createtableasselect(self, node, tree, raw, ctx, job, refs):
        key, fields = (
            self.target(node, ctx),
            [
                f | {"description": d["description"]} if d.get("description") else f
                for f, d in zip(analyzer.columns(node), self.definition(node) or [{}] * 999, strict=False)
            ],
        )
        if len({f["name"].lower() for f in fields}) < len(fields):
            raise ApiError(400, "invalidQuery", "CREATE TABLE has columns with duplicate names")
        if int(node.create_mode) == 2 and key in self.tables:
            return
        tmp = f"_ctas_{uuid.uuid4().hex}"
        self.fill(tmp, fields, tree.expression, ctx)
        try:
            self.create(node, raw, ctx, fields)
            self.con.execute(f"INSERT INTO {q(key[0] + '.' + key[1], key[2])} SELECT * FROM {tmp}")
        finally:
            self.con.execute(f"DROP TABLE {tmp}")

    def do_createview(self, node, tree, raw, ctx, job, refs):
        key, (meta, rest) = self.target(node, ctx), self.options(node, raw)
        if int(node.create_mode) == 2 and key in self.tables:
            return
        if rest:
            raise unsupported(f"the view options {rest}")
        self.view(
            key,
            analyzer.columns(node),
            raw.expression.sql("bigquery"),
            tree.expression,
            refs[1:],
            int(node.create_mode) == 1,
            meta,
        )

    def view(self, key, fields, text, tree, refs, replace, meta=None):
        self.put(
            *key,
            fields,
            "VIEW",
            replace=replace,
            view={"query": text, "useLegacySql": False},
            _refs=[r for r in refs if r != key],
            **(meta or {}),
        )
        names = ", ".join(q(f["name"]) for f in fields)
        self.con.execute(f"CREATE VIEW {q(key[0] + '.' + key[1], key[2])} ({names}) AS {tree.sql('duckdb')}")

    def do_altertablesetoptions(self, node, tree, raw, ctx, job, refs):
        meta, rest = self.options(node, raw)
        if rest:
            raise unsupported(f"ALTER TABLE SET OPTIONS {rest}")
        self.table(*self.target(node, ctx)).update(meta)

    def do_drop(self, node, tree, raw, ctx, job, refs):
        key = self.target(node, ctx)
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

    def dml(self, tree, ctx, job, verb):
        n = self.duck(tree, ctx).fetchall()[0][0]
        job.setdefault("dmlStats", {"insertedRowCount": 0, "updatedRowCount": 0, "deletedRowCount": 0})[
            verb + "RowCount"
        ] += n

    def do_insert(self, node, tree, raw, ctx, job, refs):
        self.dml(tree, ctx, job, "inserted")

    def do_update(self, node, tree, raw, ctx, job, refs):
        self.dml(tree, ctx, job, "updated")

    def do_assert(self, node, tree, raw, ctx, job, refs):
        if not self.duck(tree, ctx).fetchall()[0][0]:
            raise ApiError(400, "invalidQuery", f"Query error: {node.description} at [3:1]")

    def do_delete(self, node, tree, raw, ctx, job, refs):
        self.dml(tree, ctx, job, "deleted")

    def do_merge(self, node, tree, raw, ctx, job, refs):
        whens = tree.args["whens"].expressions
        for w in whens:
            if w.args.get("matched"):
                raise unsupported("WHEN MATCHED")
            if isinstance(w.args.get("then"), exp.Insert) and not w.args["then"].args.get("expression"):
                raise unsupported("INSERT ROW")
        text = duck_sql(tree) + " RETURNING merge_action"
        done = [
            r[0]
            for r in self.con.execute(
                text, {k: v for k, v in ctx["params"].items() if re.search(rf"[$]{k}\b", text)}
            ).fetchall()
        ]
        stats = job.setdefault("dmlStats", {"insertedRowCount": 0, "updatedRowCount": 0, "deletedRowCount": 0})
        for verb in ("INSERT", "UPDATE", "DELETE"):
            stats[verb.lower().rstrip("e") + "edRowCount"] += done.count(verb)
