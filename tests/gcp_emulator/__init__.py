"""Google Cloud for tests: Cloud Storage and BigQuery over real HTTP, in the process that runs the tests.

`storage` is the gcp-storage-emulator of PyPI, made as strict as Cloud Storage where the pipeline relies on it.
`bigquery` is our own: the part of the REST API that google-cloud-bigquery and dbt-bigquery speak. Each module adds a
layer: `tables`, then `sql` on them, `jobs` that run it, and the API itself. Google's own `analyzer` checks every
statement, so that what passes here is valid there; sqlglot translates it and DuckDB runs it. What is not implemented
answers 501, and is never accepted and ignored. Jobs run one at a time, but for transactions (scripts of this one shape:
BEGIN TRANSACTION; statements; COMMIT TRANSACTION): between their statements others run, and of two that change the same
row the later one is aborted. It knows no access rights and no quotas.

`wire` notes every request to both, and lets tests have things go wrong.
"""
