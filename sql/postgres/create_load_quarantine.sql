-- Rows that are in a file but not in its table, whole, each with its reason.
CREATE TABLE IF NOT EXISTS {quarantine} (
    target_table     text NOT NULL,
    filename         text NOT NULL,
    reason           text NOT NULL CHECK (reason IN ('malformed', 'duplicate_in_file', 'duplicate_of_other_file')),
    detail           text NOT NULL,
    line_number      bigint,
    line             text,
    unique_row_id    text,
    row_values       jsonb,
    quarantined_at   timestamptz NOT NULL DEFAULT now()
)
