-- Readers keep a copy of the search rows in memory. Each transaction that moves a
-- shard of the catalogue version says here which repositories the copy must read
-- again. Programs of before move shards and write no row: a reader that finds fewer
-- rows than moves reads everything again.

-- +goose Up
CREATE TABLE search_change (
	shard        smallint NOT NULL,
	v            bigint   NOT NULL,
	repositories int[]    NOT NULL,
	PRIMARY KEY (shard, v)
);
COMMENT ON TABLE search_change IS 'derived: which search rows the transaction that moved a shard of the catalogue version wrote or deleted; the leader deletes all but the latest rows of each shard';
COMMENT ON COLUMN search_change.v IS 'catalogue_version.v of the shard after the transaction';
COMMENT ON COLUMN search_change.repositories IS 'repository_id of those search rows, sorted; empty if the transaction changed something else';

-- The one index of words. Searches use it when they do not use a copy in memory.
CREATE INDEX repository_search_words ON repository_search USING gin (all_words) WITH (fastupdate = off);

-- +goose Down
DROP INDEX repository_search_words;
DROP TABLE search_change;
