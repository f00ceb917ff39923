-- How long removing the folders of jobs took, beside the ops: NULL where the run was killed or an older maar ran it.
ALTER TABLE runs ADD COLUMN removal INTEGER;
