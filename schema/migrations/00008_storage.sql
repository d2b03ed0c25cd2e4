-- What repositories and namespaces take, for people. The leader counts it anew
-- from time to time: readers could not, a large book has a hundred million uses
-- of blobs.

-- +goose Up
-- No foreign key to repository: rows are as they were counted, and deleting a
-- repository must wait for no count.
CREATE TABLE repository_storage (
	name          text   COLLATE "C" PRIMARY KEY,
	namespace     text   COLLATE "C" NOT NULL,
	own           bigint NOT NULL,
	shared        bigint NOT NULL,
	manifests     int    NOT NULL,
	untagged      int    NOT NULL,
	untagged_size bigint NOT NULL,
	pushed_at     timestamptz NOT NULL
) WITH (fillfactor = 85);
COMMENT ON TABLE repository_storage IS 'derived: what each repository that has a manifest takes; found out anew from time to time';
COMMENT ON COLUMN repository_storage.namespace IS 'the part of the name before the first slash; empty if there is none';
COMMENT ON COLUMN repository_storage.own IS 'bytes of the configs and layers that no other repository uses, each once';
COMMENT ON COLUMN repository_storage.shared IS 'bytes of those that others use too, each once';
COMMENT ON COLUMN repository_storage.untagged IS 'manifests that no tag shows, itself or by an image index, and that are attached to none';
COMMENT ON COLUMN repository_storage.untagged_size IS 'bytes of what is its own and only such manifests use';
COMMENT ON COLUMN repository_storage.pushed_at IS 'when we last saw a new manifest, or a tag that moved';
CREATE INDEX repository_storage_size ON repository_storage ((own + shared) DESC, name);
CREATE INDEX repository_storage_namespace ON repository_storage (namespace, (own + shared) DESC, name);
CREATE INDEX repository_storage_pushed ON repository_storage (pushed_at, name);
CREATE INDEX repository_storage_untagged ON repository_storage (untagged_size DESC, untagged DESC, name) WHERE untagged > 0;

CREATE TABLE namespace_storage (
	namespace    text   COLLATE "C" PRIMARY KEY,
	repositories int    NOT NULL,
	own          bigint NOT NULL,
	shared       bigint NOT NULL
) WITH (fillfactor = 85);
COMMENT ON TABLE namespace_storage IS 'derived: what all repositories of a namespace take; found out anew from time to time';
COMMENT ON COLUMN namespace_storage.own IS 'bytes of the configs and layers that no other namespace uses, each once';
COMMENT ON COLUMN namespace_storage.shared IS 'bytes of those that others use too, each once';
CREATE INDEX namespace_storage_size ON namespace_storage ((own + shared) DESC, namespace);

CREATE TABLE storage_total (
	one           boolean PRIMARY KEY DEFAULT true,
	repositories  int    NOT NULL,
	manifests     bigint NOT NULL,
	size          bigint NOT NULL,
	own           bigint NOT NULL,
	untagged      bigint NOT NULL,
	untagged_size bigint NOT NULL,
	counted_at    timestamptz NOT NULL DEFAULT now(),
	CONSTRAINT storage_total_one CHECK (one)
);
COMMENT ON TABLE storage_total IS 'derived: what everything takes; no row before the first count';
COMMENT ON COLUMN storage_total.size IS 'bytes of all configs and layers, each once';
COMMENT ON COLUMN storage_total.own IS 'bytes of those that one repository alone uses';
COMMENT ON COLUMN storage_total.counted_at IS 'when a count last came to anything else than the one before';

-- +goose Down
DROP TABLE storage_total, namespace_storage, repository_storage;
