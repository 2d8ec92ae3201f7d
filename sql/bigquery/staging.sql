-- name: select_days
SELECT DISTINCT DATE({event_time}) AS day FROM {staging};
