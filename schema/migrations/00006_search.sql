-- What the whole query language needs: a row for each image that a tag shows,
-- and in the search row of a repository what its images are. The program fills
-- both: rows of an older form are made anew when an indexer begins to lead.

-- +goose Up
CREATE TABLE image_search (
	repository_id int    NOT NULL,
	manifest_id   bigint NOT NULL,
	latest        boolean NOT NULL,
	listed        boolean NOT NULL DEFAULT true,
	tags          text[] COLLATE "C" NOT NULL,
	facts         text[] COLLATE "C" NOT NULL,
	terms         text[] COLLATE "C" NOT NULL,
	size          bigint NOT NULL,
	layers        int,
	created_at    timestamptz,
	pushed_at     timestamptz NOT NULL,
	PRIMARY KEY (repository_id, manifest_id),
	FOREIGN KEY (repository_id, manifest_id) REFERENCES manifest ON DELETE CASCADE
) WITH (fillfactor = 85);
COMMENT ON TABLE image_search IS 'derived: the search row of a manifest that a tag shows, itself or by an image index that lists it';
COMMENT ON COLUMN image_search.latest IS 'whether one of the tags is latest';
COMMENT ON COLUMN image_search.listed IS 'whether an image index that has a tag lists it; if not, tags are its own';
COMMENT ON COLUMN image_search.tags IS 'that show it, sorted';
COMMENT ON COLUMN image_search.facts IS 'os:x, arch:x, platform:x/y, type:x, as in the query language';
COMMENT ON COLUMN image_search.terms IS 'label:key, label:key=value, annotation:key, annotation:key=value; of a value its first 200 characters';
COMMENT ON COLUMN image_search.size IS 'bytes of config and layers as stored; of an image index the sum over its images';
COMMENT ON COLUMN image_search.layers IS 'null for an image index';
COMMENT ON COLUMN image_search.pushed_at IS 'when one of its tags last came to show it';
-- One index of terms serves labels and annotations, equal and present: half the
-- size of GIN on the jsonb itself (measured). Two of them, because flatpak asks
-- for what "latest" shows, a tenth of all.
CREATE INDEX image_search_terms ON image_search USING gin (terms) WITH (fastupdate = off);
CREATE INDEX image_search_latest ON image_search USING gin (terms) WITH (fastupdate = off) WHERE latest;

-- "tag:v1.2.3", and no hindrance to HOT: a tag's name never changes.
CREATE INDEX tag_name ON tag (name, repository_id);
CREATE INDEX manifest_digest ON manifest (digest);
CREATE INDEX repository_updated ON repository (updated_at DESC, id DESC);

-- Where a digest is used, in all repositories at once. The entries of one
-- repository are found by this index as they were by the older one.
DROP INDEX index_entry_digest;
CREATE INDEX index_entry_digest ON index_entry (digest, repository_id);
CREATE INDEX referrer_subject ON referrer (subject);

-- The moves of one repository's tags, latest first.
CREATE INDEX tag_history_repository ON tag_history (repository, id DESC);

ALTER TABLE repository_search
	ADD COLUMN form  smallint NOT NULL DEFAULT 0,
	ADD COLUMN tier  smallint NOT NULL DEFAULT 2,
	ADD COLUMN pulls bigint   NOT NULL DEFAULT 0,
	ADD COLUMN size  bigint   NOT NULL DEFAULT 0,
	ADD COLUMN facts text[] COLLATE "C" NOT NULL DEFAULT '{}',
	ADD CONSTRAINT repository_search_tier CHECK (tier IN (0, 1, 2));
COMMENT ON COLUMN repository_search.form IS 'of the rows that the program wrote for this repository; it makes those of an older form anew';
COMMENT ON COLUMN repository_search.tier IS '0: the 2,000 most pulled and then latest changed, 1: the next 38,000, 2: the rest; found out anew from time to time';
COMMENT ON COLUMN repository_search.size IS 'bytes of the image that its leading tag shows';
COMMENT ON COLUMN repository_search.facts IS 'of its tagged images, as in image_search, and has:x, is:x, licence:x, label:key';
COMMENT ON COLUMN repository_search.name_words IS 'words of the name with their places, cut by indexer.Words';
COMMENT ON COLUMN repository_search.all_words IS 'those, and the words of title, description and the values of labels';

-- A search goes through the tiers in turn and mostly ends in the first: the
-- bitmap of a common word over a million rows takes 70 ms, over 2,000 none.
DROP INDEX repository_search_basename, repository_search_name_words, repository_search_all_words;
CREATE INDEX repository_search_basename ON repository_search (tier, basename);
-- Names that are being typed, best tiers first: 40,000 rows, 2 MB. Those of the
-- last tier are found by the unique index.
CREATE INDEX repository_search_known ON repository_search (tier, name) WHERE tier < 2;
CREATE INDEX repository_search_name_0 ON repository_search USING gin (name_words) WITH (fastupdate = off) WHERE tier = 0;
CREATE INDEX repository_search_name_1 ON repository_search USING gin (name_words) WITH (fastupdate = off) WHERE tier = 1;
CREATE INDEX repository_search_name_2 ON repository_search USING gin (name_words) WITH (fastupdate = off) WHERE tier = 2;
CREATE INDEX repository_search_all_0 ON repository_search USING gin (all_words) WITH (fastupdate = off) WHERE tier = 0;
CREATE INDEX repository_search_all_1 ON repository_search USING gin (all_words) WITH (fastupdate = off) WHERE tier = 1;
CREATE INDEX repository_search_all_2 ON repository_search USING gin (all_words) WITH (fastupdate = off) WHERE tier = 2;
CREATE INDEX repository_search_facts ON repository_search USING gin (facts) WITH (fastupdate = off);
CREATE INDEX repository_search_size ON repository_search (size DESC, repository_id DESC);
CREATE INDEX repository_search_pulls ON repository_search (pulls DESC, repository_id DESC);

CREATE TABLE search_word (
	word text COLLATE "C" PRIMARY KEY,
	n    int NOT NULL
);
COMMENT ON TABLE search_word IS 'derived: the words of names, and in how many they are; found out anew from time to time, for misspelt ones';
CREATE TABLE search_misspelling (
	form text COLLATE "C" NOT NULL,
	word text COLLATE "C" NOT NULL,
	PRIMARY KEY (form, word)
);
-- No foreign key: its check would double the cost of the million rows that a
-- large book has here, and deleting a word would want an index on word. A form
-- of a word that is gone finds nothing, since words are looked up in search_word.
COMMENT ON TABLE search_misspelling IS 'derived: words of search_word, whole and with one letter left out; two words a letter apart have one of these in common';

-- +goose Down
DROP TABLE search_misspelling, search_word;
DROP INDEX repository_search_basename, repository_search_known, repository_search_name_0, repository_search_name_1, repository_search_name_2,
	repository_search_all_0, repository_search_all_1, repository_search_all_2;
ALTER TABLE repository_search DROP COLUMN form, DROP COLUMN tier, DROP COLUMN pulls, DROP COLUMN size, DROP COLUMN facts;
COMMENT ON COLUMN repository_search.name_words IS 'words of the name, cut by indexer.Words';
COMMENT ON COLUMN repository_search.all_words IS 'those, and the words of title and description';
CREATE INDEX repository_search_basename ON repository_search (basename);
CREATE INDEX repository_search_name_words ON repository_search USING gin (name_words) WITH (fastupdate = off);
CREATE INDEX repository_search_all_words ON repository_search USING gin (all_words) WITH (fastupdate = off);
DROP INDEX tag_history_repository, referrer_subject, index_entry_digest;
CREATE INDEX index_entry_digest ON index_entry (repository_id, digest);
DROP INDEX repository_updated, manifest_digest, tag_name;
DROP TABLE image_search;
