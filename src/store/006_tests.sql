-- What the tests of an op came to: NULL for an op without tests, and where an older maar ran it.
ALTER TABLE results ADD COLUMN tests BLOB; -- a zlib stream of JSON: `Tests`
ALTER TABLE results ADD COLUMN tests_bytes INTEGER; -- unpacked
-- Whether only some tests were run, to confirm a difference: such an attempt doesn't speak for its op.
ALTER TABLE results ADD COLUMN partial INTEGER NOT NULL DEFAULT 0;
