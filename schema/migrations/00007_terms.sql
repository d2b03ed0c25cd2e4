-- What can be asked about a repository and its images, in one column beside its
-- words and under the same indexes: a common word with a common label, or either
-- alone, is found by the index that has both, and not by looking at each image.
-- Labels are numbers there and in the rows of images, which take a third of the
-- room that their texts took. The program fills both: rows of an older form are
-- made anew when an indexer begins to lead. image_search.terms, which is empty
-- from then on, stays for programs of before.

-- +goose Up
ALTER TABLE repository_search ADD COLUMN terms bigint[] NOT NULL DEFAULT '{}';
COMMENT ON COLUMN repository_search.terms IS 'hashtextextended(x, 0) of its facts, and the keys and pairs of its images; of a key with more than four values its bitwise opposite instead of those, and of many: instead of all where there are too many keys';

DROP INDEX image_search_terms, image_search_latest;
ALTER TABLE image_search
	ALTER COLUMN terms SET DEFAULT '{}',
	ADD COLUMN keys  bigint[] NOT NULL DEFAULT '{}',
	ADD COLUMN pairs bigint[] NOT NULL DEFAULT '{}',
	ADD CONSTRAINT image_search_pairs_of_keys CHECK (cardinality(keys) = cardinality(pairs));
COMMENT ON COLUMN image_search.terms IS 'of programs before keys and pairs: label:key, label:key=value, annotation:key, annotation:key=value';
COMMENT ON COLUMN image_search.keys IS 'hashtextextended(x, 0) of label:key and annotation:key';
COMMENT ON COLUMN image_search.pairs IS 'beside each key hashtextextended(x, 0) of x = label:key, character 31, and the first 200 of the value; the key once more where that is a time of building';
CREATE INDEX image_search_pairs ON image_search USING gin (keys, pairs) WITH (fastupdate = off);
CREATE INDEX image_search_latest ON image_search USING gin (keys, pairs) WITH (fastupdate = off) WHERE latest;

DROP INDEX repository_search_name_0, repository_search_name_1, repository_search_name_2,
	repository_search_all_0, repository_search_all_1, repository_search_all_2, repository_search_facts;
CREATE INDEX repository_search_words_0 ON repository_search USING gin (name_words, all_words, terms) WITH (fastupdate = off) WHERE tier = 0;
CREATE INDEX repository_search_words_1 ON repository_search USING gin (name_words, all_words, terms) WITH (fastupdate = off) WHERE tier = 1;
CREATE INDEX repository_search_words_2 ON repository_search USING gin (name_words, all_words, terms) WITH (fastupdate = off) WHERE tier = 2;

-- One row in 64, to tell what is common from what is rare before either is read:
-- the statistics of ANALYZE know the most common values, and of values that come
-- together nothing.
CREATE INDEX repository_search_sample ON repository_search USING gin (all_words, terms) WITH (fastupdate = off) WHERE repository_id % 64 = 0;
CREATE INDEX image_search_sample ON image_search USING gin (keys, pairs) WITH (fastupdate = off) WHERE hashint8(manifest_id) % 64 = 0;

CREATE TABLE search_lexeme (word text COLLATE "C" PRIMARY KEY);
COMMENT ON TABLE search_lexeme IS 'derived: all words that search rows have, and some that they had; up to 40 bytes of each. What is being typed is the beginning of these';

-- +goose Down
DROP TABLE search_lexeme;
DROP INDEX image_search_sample, image_search_latest, image_search_pairs;
ALTER TABLE image_search ALTER COLUMN terms DROP DEFAULT, DROP COLUMN keys, DROP COLUMN pairs;
COMMENT ON COLUMN image_search.terms IS 'label:key, label:key=value, annotation:key, annotation:key=value; of a value its first 200 characters';
CREATE INDEX image_search_terms ON image_search USING gin (terms) WITH (fastupdate = off);
CREATE INDEX image_search_latest ON image_search USING gin (terms) WITH (fastupdate = off) WHERE latest;
DROP INDEX repository_search_words_0, repository_search_words_1, repository_search_words_2, repository_search_sample;
ALTER TABLE repository_search DROP COLUMN terms;
CREATE INDEX repository_search_name_0 ON repository_search USING gin (name_words) WITH (fastupdate = off) WHERE tier = 0;
CREATE INDEX repository_search_name_1 ON repository_search USING gin (name_words) WITH (fastupdate = off) WHERE tier = 1;
CREATE INDEX repository_search_name_2 ON repository_search USING gin (name_words) WITH (fastupdate = off) WHERE tier = 2;
CREATE INDEX repository_search_all_0 ON repository_search USING gin (all_words) WITH (fastupdate = off) WHERE tier = 0;
CREATE INDEX repository_search_all_1 ON repository_search USING gin (all_words) WITH (fastupdate = off) WHERE tier = 1;
CREATE INDEX repository_search_all_2 ON repository_search USING gin (all_words) WITH (fastupdate = off) WHERE tier = 2;
CREATE INDEX repository_search_facts ON repository_search USING gin (facts) WITH (fastupdate = off);
