-- Reasons that everybody may read. Older programs stored the text of the error
-- itself, which may hold the address of a presigned request or the beginning of a
-- body. Programs of now write reasons, which begin with "the ", and show no other;
-- this takes the old ones out of the tables, and so out of backups. An old program
-- that still runs may store another, until its task is read again.

-- +goose Up
UPDATE task SET error = 'the reason was stored by an older version of the indexer and is not shown: its log has it'
WHERE error NOT LIKE 'the %';
UPDATE scan SET error = 'the reason was stored by an older version of the indexer and is not shown: its log has it'
WHERE error NOT LIKE 'the %';
UPDATE tag SET problem = 'the reason was stored by an older version of the indexer and is not shown: its log has it'
WHERE problem NOT LIKE 'the %';
COMMENT ON COLUMN task.error IS 'why it could not be read, in words for everybody; they begin with "the "';
COMMENT ON COLUMN scan.error IS 'why it cannot go on, in words for everybody; they begin with "the "';

-- +goose Down
COMMENT ON COLUMN task.error IS NULL;
COMMENT ON COLUMN scan.error IS NULL;
