-- What must stay as it is: tags that do not move, repositories that are frozen, and quotas;
-- what moved all the same; and what was yanked. Programs of before neither read nor write these.

-- +goose Up
CREATE TABLE protection (
	kind       text   COLLATE "C" NOT NULL,
	pattern    text   COLLATE "C" NOT NULL,
	tags       text   COLLATE "C" NOT NULL DEFAULT '',
	bytes      bigint,
	reason     text   NOT NULL DEFAULT '',
	actor      text   NOT NULL DEFAULT '',
	created_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (pattern, kind, tags),
	CONSTRAINT protection_kind CHECK (kind IN ('protect', 'freeze', 'quota')),
	CONSTRAINT protection_tags CHECK ((tags <> '') = (kind = 'protect')),
	CONSTRAINT protection_bytes CHECK ((bytes >= 0) IS TRUE = (kind = 'quota')),
	CONSTRAINT protection_reason CHECK (char_length(reason) <= 200)
);
COMMENT ON TABLE protection IS 'kept: protected tags, frozen repositories and quotas';
COMMENT ON COLUMN protection.kind IS 'protect: tags do not move and are not deleted; freeze: nothing is pushed or deleted; quota: nothing is pushed above a number of bytes';
COMMENT ON COLUMN protection.pattern IS 'the repositories: *, team/* or team/app';
COMMENT ON COLUMN protection.tags IS 'the protected tags, with * and ?; empty for other kinds';
COMMENT ON COLUMN protection.bytes IS 'the quota; null for other kinds';
COMMENT ON COLUMN protection.reason IS 'what people are told who are refused';
COMMENT ON COLUMN protection.actor IS 'who set it';

CREATE TABLE protected_move (
	repository text  COLLATE "C" NOT NULL,
	tag        text  COLLATE "C" NOT NULL,
	keeps      bytea NOT NULL,
	media_type text  NOT NULL DEFAULT '',
	body       bytea,
	shows      bytea,
	state      text  COLLATE "C" NOT NULL DEFAULT 'waiting',
	tries      int   NOT NULL DEFAULT 0,
	first_at   timestamptz NOT NULL DEFAULT now(),
	seen_at    timestamptz NOT NULL DEFAULT now(),
	ended_at   timestamptz,
	operation  bigint,
	problem    text  NOT NULL DEFAULT '',
	PRIMARY KEY (repository, tag),
	CONSTRAINT protected_move_state CHECK (state IN ('waiting', 'done', 'failed'))
);
CREATE INDEX protected_move_waiting ON protected_move (seen_at) WHERE state = 'waiting';
COMMENT ON TABLE protected_move IS 'kept: protected tags that somebody moved or deleted all the same, and whether they were put back';
COMMENT ON COLUMN protected_move.keeps IS 'the digest that the tag must show';
COMMENT ON COLUMN protected_move.body IS 'the manifest that it must show; null if the book did not have it, or it is not needed any more';
COMMENT ON COLUMN protected_move.shows IS 'the digest that it was seen to show; null: it was deleted';
COMMENT ON COLUMN protected_move.state IS 'waiting to be put back; done: it shows keeps again, or is not protected any more; failed: not tried any more';
COMMENT ON COLUMN protected_move.tries IS 'how many operations were to put it back since first_at';
COMMENT ON COLUMN protected_move.seen_at IS 'when it was last seen to show something else';
COMMENT ON COLUMN protected_move.operation IS 'the last of these operations';
COMMENT ON COLUMN protected_move.problem IS 'why it is not tried any more';

CREATE TABLE yank (
	repository text    COLLATE "C" NOT NULL,
	tag        text    COLLATE "C" NOT NULL DEFAULT '',
	digest     bytea   NOT NULL DEFAULT '',
	deprecated boolean NOT NULL DEFAULT false,
	reason     text    NOT NULL DEFAULT '',
	actor      text    NOT NULL DEFAULT '',
	created_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (repository, tag, digest, deprecated),
	CONSTRAINT yank_one CHECK (tag = '' OR digest = ''),
	CONSTRAINT yank_deprecated CHECK (NOT deprecated OR tag = '' AND digest = '' AND reason <> ''),
	CONSTRAINT yank_reason CHECK (char_length(reason) <= 200)
);
COMMENT ON TABLE yank IS 'kept: tags, images and repositories that no search shows, though they can be pulled';
COMMENT ON COLUMN yank.tag IS 'the tag, whatever it shows; empty: not a tag';
COMMENT ON COLUMN yank.digest IS 'the image, whatever tags show it; empty: not an image. If tag is empty too, it is the whole repository';
COMMENT ON COLUMN yank.deprecated IS 'the repository is deprecated, which is a message, and not yanked';

-- Programs of before list what is yanked: they and the next one after them write these rows again.
-- +goose Down
UPDATE repository_search SET form = 0 WHERE name IN (SELECT repository FROM yank);
DROP TABLE yank, protected_move, protection;
