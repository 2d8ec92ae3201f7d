"""Cloud Storage and BigQuery for tests: emulators with a real HTTP interface, in the process that runs the tests.

`storage` is the package gcp-storage-emulator, with the strictness of Cloud Storage where the pipeline relies on it.
`bigquery` is written for these tests. It implements the part of the REST API that google-cloud-bigquery and
dbt-bigquery use. Each of its modules adds a layer: `tables`, `sql` on them, `jobs` that run it, and the API.

Google's own `analyzer` checks every statement, so that a statement that passes here is valid in BigQuery. sqlglot
translates it and DuckDB runs it. A request for something that is not implemented gets status 501; no part of a request
is ignored.

Jobs run one at a time, except for transactions: scripts of the form BEGIN TRANSACTION; statements; COMMIT TRANSACTION.
Other jobs may run between the statements of a transaction. If two transactions change the same row, the later one is
aborted. There are no access rights and no quotas.

`wire` records every request to both emulators, and lets tests inject faults.
"""
