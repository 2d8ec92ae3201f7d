SELECT DATE({event_time}) AS day FROM {staging} GROUP BY day
