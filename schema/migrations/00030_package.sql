-- The index of packages of pesde: the files as they are now, and the history of the git repository
-- in which clients read them. Programs of before neither read nor write these tables.

-- +goose Up
CREATE TABLE package_file (
	path       text   COLLATE "C" PRIMARY KEY,
	content    bytea  NOT NULL,
	CONSTRAINT package_file_path CHECK (octet_length(path) BETWEEN 1 AND 255)
);
COMMENT ON TABLE package_file IS 'kept: the files of the index of packages in its last commit: config.toml, SCOPE/scope.toml and SCOPE/NAME';

CREATE TABLE package_bundle (
	id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	base       bytea,
	head       bytea NOT NULL,
	bundle     bytea NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE package_bundle IS 'kept: the history of the index of packages, as git bundles that follow one another';
COMMENT ON COLUMN package_bundle.base IS 'the commit on which the bundle builds; null: it has the whole history';
COMMENT ON COLUMN package_bundle.head IS 'its last commit';

-- +goose Down
DROP TABLE package_bundle;
DROP TABLE package_file;
