COPY {table} ({columns}) FROM STDIN WITH (FORMAT csv, ENCODING 'UTF8')
