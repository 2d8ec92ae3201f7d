-- name: set_settings
-- Leaves out settings that the server's version does not have.
SELECT set_config(name, value, false) FROM unnest(%(names)s, %(values)s) AS setting (name, value)
WHERE current_setting(name, true) IS NOT NULL;

-- name: select_defaults
-- What a new session begins with.
SELECT name, reset_val FROM pg_settings WHERE name = ANY(%(names)s) ORDER BY name;

-- name: read_clock
-- Both times of a ledger entry are the server's, as its clock may differ from the client's.
SELECT clock_timestamp();

-- name: set_connection_check
-- A server process then ends within a second of its client's death; not available on all platforms.
SELECT set_config('client_connection_check_interval', '1s', false);

-- name: select_blockers
-- What the sessions wait for and for how many seconds, and the sessions that block them.
SELECT CASE WHEN wanted.locktype = 'advisory' THEN 'another run of the same work'
            WHEN wanted.relation IS NOT NULL THEN 'the table ' || wanted.relation::regclass::text
            ELSE 'another transaction' END,
       extract(epoch FROM clock_timestamp() - coalesce(wanted.waitstart, waiting.query_start))::float8,
       blocker.pid, blocker.application_name, blocker.usename::text, blocker.state,
       coalesce(blocker.xact_start, blocker.state_change)
FROM pg_stat_activity AS waiting
JOIN pg_locks AS wanted ON wanted.pid = waiting.pid AND NOT wanted.granted
CROSS JOIN LATERAL unnest(pg_blocking_pids(waiting.pid)) AS blocking (pid)
JOIN pg_stat_activity AS blocker ON blocker.pid = blocking.pid
WHERE waiting.pid = ANY(%(sessions)s);

-- name: select_sessions_without_work
-- The sessions that should answer at once, because they are idle or copy a single block of rows.
SELECT pid, query_start FROM pg_stat_activity
WHERE pid = ANY(%(sessions)s)
  AND (state <> 'active' OR query ~ '^(--[^\n]*\n)*COPY ' AND wait_event_type IS DISTINCT FROM 'Lock');

-- name: lock_session
-- Until the session ends. https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS
SELECT pg_advisory_lock(hashtextextended(%(name)s, 0));

-- name: try_to_share_lock
-- Until the session ends.
SELECT pg_try_advisory_lock_shared(hashtextextended(%(name)s, 0));

-- name: lock_transaction
-- Until the transaction ends.
SELECT pg_advisory_xact_lock(hashtextextended(%(name)s, 0));

-- name: table_exists
SELECT to_regclass(%(table)s) IS NOT NULL;

-- name: schema_is_missing
SELECT to_regnamespace(quote_ident(%(schema)s)) IS NULL;

-- name: disable_seqscan
-- The planner has no statistics of the new table; using the indexes is always right here.
SET LOCAL enable_seqscan = off;

-- name: count_other_sessions
SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid();
