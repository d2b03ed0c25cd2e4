-- People whom an identity provider knows, and the accounts that are theirs; and the sessions of
-- the browser, if auth.sessions.store is postgres.

-- +goose Up
CREATE TABLE identity (
	issuer       text   COLLATE "C" NOT NULL,
	subject      text   COLLATE "C" NOT NULL,
	account_id   bigint NOT NULL REFERENCES account ON DELETE CASCADE,
	groups       text[] COLLATE "C" NOT NULL DEFAULT '{}',
	created_at   timestamptz NOT NULL DEFAULT now(),
	signed_in_at timestamptz,
	PRIMARY KEY (issuer, subject),
	CONSTRAINT identity_issuer CHECK (octet_length(issuer) BETWEEN 1 AND 1024),
	CONSTRAINT identity_subject CHECK (octet_length(subject) BETWEEN 1 AND 255)
);
CREATE INDEX identity_account ON identity (account_id);
COMMENT ON TABLE identity IS 'kept: people as identity providers know them, each with the account that is theirs';
COMMENT ON COLUMN identity.issuer IS 'the provider: auth.oidc.issuer or auth.github_login.url';
COMMENT ON COLUMN identity.subject IS 'what the provider never changes and never gives to another person: the claim sub, or the number of the GitHub user';
COMMENT ON COLUMN identity.groups IS 'the groups of the person as the provider said at the last sign-in; they count like those of account_group';
COMMENT ON COLUMN identity.signed_in_at IS 'the last sign-in; null: none yet';

CREATE TABLE session (
	id         text   COLLATE "C" PRIMARY KEY,
	account_id bigint NOT NULL REFERENCES account ON DELETE CASCADE,
	valid_from timestamptz NOT NULL,
	began_at   timestamptz NOT NULL,
	expires_at timestamptz NOT NULL,
	CONSTRAINT session_id CHECK (id ~ '^[0-9a-f]{64}$')
);
CREATE INDEX session_account ON session (account_id, began_at DESC);
CREATE INDEX session_expires ON session (expires_at);
COMMENT ON TABLE session IS 'kept: sessions of the browser that are stored here; one that has ended is deleted';
COMMENT ON COLUMN session.valid_from IS 'account.valid_from when the credentials were checked: a later one makes the session void';
COMMENT ON COLUMN session.id IS 'the SHA-256 of the random bytes in the cookie, in hexadecimal';

-- +goose Down
DROP TABLE session, identity;
