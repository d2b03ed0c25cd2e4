-- The garbage collection of blobs: what its looks at the storage have seen, which blobs may go,
-- and how often a blob was needed again after a look had seen it unused. Programs of before
-- neither read nor write these tables.

-- +goose Up
CREATE TABLE collect_state (
	one           boolean PRIMARY KEY DEFAULT true,
	paused        boolean NOT NULL DEFAULT false,
	paused_by     text    NOT NULL DEFAULT '',
	paused_at     timestamptz,
	looks         bigint  NOT NULL DEFAULT 0,
	first_look    timestamptz,
	last_look     timestamptz,
	observed      float8  NOT NULL DEFAULT 0,
	does          text    NOT NULL DEFAULT '',
	deleted       bigint  NOT NULL DEFAULT 0,
	deleted_bytes bigint  NOT NULL DEFAULT 0,
	CONSTRAINT collect_state_one CHECK (one)
);
COMMENT ON TABLE collect_state IS 'kept: the state of the garbage collection of blobs';
COMMENT ON COLUMN collect_state.paused IS 'the kill switch: nothing is moved to the trash or deleted';
COMMENT ON COLUMN collect_state.looks IS 'looks that saw the whole storage';
COMMENT ON COLUMN collect_state.last_look IS 'when the last of them began';
COMMENT ON COLUMN collect_state.observed IS 'seconds for which the storage has been looked at without long gaps';
COMMENT ON COLUMN collect_state.does IS 'what the leader does, or why it deletes nothing, in words for everybody';
COMMENT ON COLUMN collect_state.deleted IS 'blobs deleted since the beginning';
INSERT INTO collect_state DEFAULT VALUES;

CREATE TABLE collect_candidate (
	digest       bytea PRIMARY KEY,
	size         bigint NOT NULL,
	state        text   COLLATE "C" NOT NULL,
	unused_at    timestamptz NOT NULL,
	unlinked_at  timestamptz,
	looked_at    timestamptz NOT NULL,
	changed_at   timestamptz NOT NULL DEFAULT now(),
	failures     int    NOT NULL DEFAULT 0,
	next_try     timestamptz,
	problem      text   NOT NULL DEFAULT '',
	needed       boolean NOT NULL DEFAULT false,
	CONSTRAINT collect_candidate_digest CHECK (octet_length(digest) = 32),
	CONSTRAINT collect_candidate_state CHECK (state IN ('waiting', 'trashed', 'deleted'))
) WITH (fillfactor = 80);
COMMENT ON TABLE collect_candidate IS 'kept: blobs in the storage that no manifest uses, and those that were deleted lately';
COMMENT ON COLUMN collect_candidate.digest IS 'sha256';
COMMENT ON COLUMN collect_candidate.state IS 'waiting: in its place; trashed: moved to the trash, or about to be; deleted';
COMMENT ON COLUMN collect_candidate.unused_at IS 'the first of the looks in a row that saw that no manifest uses it';
COMMENT ON COLUMN collect_candidate.unlinked_at IS 'the first of the looks in a row that also saw no link to it; null: a repository links it';
COMMENT ON COLUMN collect_candidate.looked_at IS 'the last look that saw it';
COMMENT ON COLUMN collect_candidate.changed_at IS 'when its state last changed';
COMMENT ON COLUMN collect_candidate.failures IS 'orders that failed in a row; from 10 on it is stuck and not tried any more';
COMMENT ON COLUMN collect_candidate.problem IS 'why the last order did not do it, for people';
COMMENT ON COLUMN collect_candidate.needed IS 'the last look saw it in the trash, and that something links or uses it';
CREATE INDEX collect_candidate_due ON collect_candidate (state, unlinked_at, changed_at);
CREATE INDEX collect_candidate_problem ON collect_candidate (digest) WHERE failures > 0;

CREATE TABLE collect_return (
	day     date   NOT NULL,
	kind    text   COLLATE "C" NOT NULL,
	bucket  int    NOT NULL,
	blobs   bigint NOT NULL,
	longest float8 NOT NULL,
	PRIMARY KEY (day, kind, bucket),
	CONSTRAINT collect_return_kind CHECK (kind IN ('used', 'linked'))
);
COMMENT ON TABLE collect_return IS 'kept: how many blobs were needed again after looks had seen them unused, by day and by how long that had been';
COMMENT ON COLUMN collect_return.kind IS 'used: a manifest uses it again; linked: a repository links it again';
COMMENT ON COLUMN collect_return.bucket IS 'the largest number of seconds of the row; 0: any';
COMMENT ON COLUMN collect_return.longest IS 'the longest time in the row, in seconds';

CREATE TABLE storage_look (
	one               boolean PRIMARY KEY DEFAULT true,
	begin_at          timestamptz NOT NULL,
	seconds           float8 NOT NULL,
	blobs             bigint NOT NULL,
	bytes             bigint NOT NULL,
	links             bigint NOT NULL,
	manifests         bigint NOT NULL,
	abandoned_uploads bigint NOT NULL,
	abandoned_bytes   bigint NOT NULL,
	active_uploads    bigint NOT NULL,
	unreadable        bigint NOT NULL,
	blind             text   NOT NULL,
	problems          text[] NOT NULL,
	unused            bigint NOT NULL,
	unused_bytes      bigint NOT NULL,
	unlinked          bigint NOT NULL,
	unlinked_bytes    bigint NOT NULL,
	trashed           bigint NOT NULL,
	trashed_bytes     bigint NOT NULL,
	missing           bigint NOT NULL,
	cut               bigint NOT NULL,
	book_manifests    bigint NOT NULL,
	book_bytes        bigint NOT NULL,
	only_book         bigint NOT NULL,
	only_storage      bigint NOT NULL,
	examples          text[] NOT NULL,
	CONSTRAINT storage_look_one CHECK (one)
);
COMMENT ON TABLE storage_look IS 'derived: the last look at the whole storage, compared with the book; no row before the first';
COMMENT ON COLUMN storage_look.blind IS 'why links may exist that the look did not see; empty if none';
COMMENT ON COLUMN storage_look.problems IS 'paths that could not be used, each with the reason; the first hundred';
COMMENT ON COLUMN storage_look.unused IS 'blobs in the storage that no manifest uses';
COMMENT ON COLUMN storage_look.unlinked IS 'those of them that no repository links either';
COMMENT ON COLUMN storage_look.missing IS 'blobs that a manifest in the storage needs and that the storage does not have';
COMMENT ON COLUMN storage_look.cut IS 'blobs that a manifest in the storage needs and that no repository links';
COMMENT ON COLUMN storage_look.book_bytes IS 'bytes of the blobs and manifests of the book, each once';
COMMENT ON COLUMN storage_look.only_book IS 'manifests of the book that the storage does not have';
COMMENT ON COLUMN storage_look.only_storage IS 'manifests in the storage that the book does not have';
COMMENT ON COLUMN storage_look.examples IS 'some of what is counted as a difference, in words';

-- What a look sends, until it is compared. Both tables are emptied at each look, and a crash of
-- the server may empty them too.
CREATE UNLOGGED TABLE storage_blob (
	digest     bytea   PRIMARY KEY,
	size       bigint  NOT NULL,
	stored     boolean NOT NULL,
	linked     boolean NOT NULL,
	used       boolean NOT NULL,
	trashed_at timestamptz
);
COMMENT ON TABLE storage_blob IS 'derived: blobs that the look which is being read has reported';

CREATE UNLOGGED TABLE storage_manifest (
	repository text COLLATE "C" NOT NULL,
	digest     bytea NOT NULL,
	PRIMARY KEY (repository, digest)
);
COMMENT ON TABLE storage_manifest IS 'derived: manifests that the look which is being read has reported';

-- +goose Down
DROP TABLE storage_manifest, storage_blob, storage_look, collect_return, collect_candidate, collect_state;
