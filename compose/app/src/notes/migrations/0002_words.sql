-- Added as a nullable column, so that the release before this one keeps working while both run.
ALTER TABLE notes ADD COLUMN words integer CHECK (words >= 0);
CREATE INDEX notes_unprocessed ON notes (created_at) WHERE processed_at IS NULL;
