-- The partition's own bound says the same from now on; the check only spared ATTACH a scan.
ALTER TABLE {partition} DROP CONSTRAINT one_file
