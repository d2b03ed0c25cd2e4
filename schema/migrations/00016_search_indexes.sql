-- Searches are answered from memory, or by plain SQL. What an older program chose
-- its plans with and from goes: the indexes of tiers, the samples, the indexes in the
-- order of results, and the words that replaced what is being typed or misspelt. It
-- gives the same answers without them. repository_search.tier and the tables
-- search_lexeme, search_word and search_misspelling, which it writes, stay while it
-- may run; a later migration drops them.
--
-- The steps, down too, take locks in the order in which pushes do.

-- +goose Up
DROP INDEX repository_updated;
DROP INDEX image_search_sample;
DROP INDEX repository_search_words_0, repository_search_words_1, repository_search_words_2, repository_search_sample,
	repository_search_basename, repository_search_known, repository_search_size, repository_search_pulls;

-- The older program replaces the beginning of a word by the words of search_lexeme
-- that begin so. If there are none, it searches for the beginning itself, which is
-- slower; if some were missing, it would miss repositories. So the table is empty
-- and stays so.
-- +goose StatementBegin
CREATE FUNCTION insert_nothing() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RETURN NULL;
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION insert_nothing IS 'keeps a table empty, as its trigger before each insert';
CREATE TRIGGER search_lexeme_empty BEFORE INSERT ON search_lexeme FOR EACH ROW EXECUTE FUNCTION insert_nothing();
TRUNCATE search_lexeme, search_word, search_misspelling;
COMMENT ON TABLE search_lexeme IS 'derived: empty; of an older program';
COMMENT ON TABLE search_word IS 'derived: of an older program';
COMMENT ON TABLE search_misspelling IS 'derived: of an older program';
COMMENT ON COLUMN repository_search.tier IS 'of an older program';

-- +goose Down
CREATE INDEX repository_updated ON repository (updated_at DESC, id DESC);
-- The lock on image_search that this takes lets no push begin to write its search
-- rows, so no word is missed below.
CREATE INDEX image_search_sample ON image_search USING gin (keys, pairs) WITH (fastupdate = off) WHERE hashint8(manifest_id) % 64 = 0;

DROP TRIGGER search_lexeme_empty ON search_lexeme;
DROP FUNCTION insert_nothing();
-- At most 40 bytes of each word, as the older program stores them. A character has
-- at most four bytes.
INSERT INTO search_lexeme (word)
SELECT DISTINCT cut.word FROM repository_search s CROSS JOIN unnest(tsvector_to_array(s.all_words)) AS used (word)
CROSS JOIN LATERAL (
	SELECT left(used.word, n) FROM generate_series(40, 10, -1) AS n WHERE octet_length(left(used.word, n)) <= 40 ORDER BY n DESC LIMIT 1
) AS cut (word);
COMMENT ON TABLE search_lexeme IS 'derived: all words that search rows have, and some that they had; up to 40 bytes of each. What is being typed is the beginning of these';
COMMENT ON TABLE search_word IS 'derived: the words of names, and in how many they are; found out anew from time to time, for misspelt ones';
COMMENT ON TABLE search_misspelling IS 'derived: words of search_word, whole and with one letter left out; two words a letter apart have one of these in common';
COMMENT ON COLUMN repository_search.tier IS '0: the 2,000 most pulled and then latest changed, 1: the next 38,000, 2: the rest; found out anew from time to time';

CREATE INDEX repository_search_basename ON repository_search (tier, basename);
CREATE INDEX repository_search_known ON repository_search (tier, name) WHERE tier < 2;
CREATE INDEX repository_search_words_0 ON repository_search USING gin (name_words, all_words, terms) WITH (fastupdate = off) WHERE tier = 0;
CREATE INDEX repository_search_words_1 ON repository_search USING gin (name_words, all_words, terms) WITH (fastupdate = off) WHERE tier = 1;
CREATE INDEX repository_search_words_2 ON repository_search USING gin (name_words, all_words, terms) WITH (fastupdate = off) WHERE tier = 2;
CREATE INDEX repository_search_size ON repository_search (size DESC, repository_id DESC);
CREATE INDEX repository_search_pulls ON repository_search (pulls DESC, repository_id DESC);
CREATE INDEX repository_search_sample ON repository_search USING gin (all_words, terms) WITH (fastupdate = off) WHERE repository_id % 64 = 0;
