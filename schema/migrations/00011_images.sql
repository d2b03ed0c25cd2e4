-- What an image is said to have (a signature, an SBOM, an attestation) is a fact
-- of that image. The row of a repository says of how many tags that is so, and
-- which tag speaks for it.

-- +goose Up
-- A row whose leading_tag is null was not written since the column came: the leader
-- writes it again, whatever its form. So rows are whole once more after a way
-- down, which takes columns away, and up again.
ALTER TABLE repository_search
	ADD COLUMN leading_tag      text COLLATE "C",
	ADD COLUMN own_tags         int NOT NULL DEFAULT 0,
	ADD COLUMN signature_tags   int NOT NULL DEFAULT 0,
	ADD COLUMN sbom_tags        int NOT NULL DEFAULT 0,
	ADD COLUMN attestation_tags int NOT NULL DEFAULT 0;
COMMENT ON COLUMN repository_search.leading_tag IS 'the tag that speaks for it: latest, else the highest version, else what moved last, never one of a referrer; empty if there is none, null if the row must be written again';
COMMENT ON COLUMN repository_search.own_tags IS 'tags but for those on which older tools keep referrers (sha256-...)';
COMMENT ON COLUMN repository_search.signature_tags IS 'of own_tags, those that show what has a signature';
COMMENT ON COLUMN repository_search.sbom_tags IS 'of own_tags, those that show what has an SBOM';
COMMENT ON COLUMN repository_search.attestation_tags IS 'of own_tags, those that show what has an attestation';
COMMENT ON COLUMN repository_search.size IS 'bytes of the image that its leading tag shows';
COMMENT ON COLUMN repository_search.facts IS 'of its tagged images, as in image_search, and licence:x, label:key';
COMMENT ON COLUMN image_search.facts IS 'os:x, arch:x, platform:x/y, type:x, has:x, as in the query language; sorted';

-- An attestation that BuildKit made names its image in the index that lists both.
-- The program has the same expression, which is null for every other entry.
CREATE INDEX index_entry_attests ON index_entry (repository_id, (
	CASE WHEN annotations ->> 'vnd.docker.reference.type' = 'attestation-manifest' AND annotations ->> 'vnd.docker.reference.digest' ~ '^sha256:[0-9a-f]{64}$'
		THEN decode(substr(annotations ->> 'vnd.docker.reference.digest', 8), 'hex') END))
	WHERE CASE WHEN annotations ->> 'vnd.docker.reference.type' = 'attestation-manifest' AND annotations ->> 'vnd.docker.reference.digest' ~ '^sha256:[0-9a-f]{64}$'
		THEN decode(substr(annotations ->> 'vnd.docker.reference.digest', 8), 'hex') END IS NOT NULL;

-- +goose Down
DROP INDEX index_entry_attests;
COMMENT ON COLUMN image_search.facts IS 'os:x, arch:x, platform:x/y, type:x, as in the query language';
COMMENT ON COLUMN repository_search.facts IS 'of its tagged images, as in image_search, and has:x, is:x, licence:x, label:key';
ALTER TABLE repository_search DROP COLUMN leading_tag, DROP COLUMN own_tags, DROP COLUMN signature_tags, DROP COLUMN sbom_tags, DROP COLUMN attestation_tags;
