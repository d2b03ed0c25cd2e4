-- People whom an identity provider knows, and the accounts that are theirs.

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

-- +goose Down
DROP TABLE identity;
