-- Creation times that another system knew, for what was there before us. Programs of before neither
-- read nor write this table.

-- +goose Up
CREATE TABLE imported_time (
	repository text  COLLATE "C" NOT NULL,
	tag        text  COLLATE "C" NOT NULL,
	digest     bytea NOT NULL,
	created_at timestamptz NOT NULL,
	imported_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (repository, tag, digest)
);
COMMENT ON TABLE imported_time IS 'kept: when a repository (without tag and digest), a manifest (without tag), or a tag with what it shows was created, as another system knew';
COMMENT ON COLUMN imported_time.imported_at IS 'when we were last told: a push of the tag since then is later than created_at';

-- +goose Down
DROP TABLE imported_time;
