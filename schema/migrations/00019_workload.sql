-- Which programs elsewhere a robot trusts by the tokens of their issuers, such as jobs of
-- GitHub Actions. Programs of before do not read it.

-- +goose Up
CREATE TABLE workload (
	id         text   COLLATE "C" PRIMARY KEY,
	account_id bigint NOT NULL REFERENCES account ON DELETE CASCADE,
	issuer     text   COLLATE "C" NOT NULL,
	audience   text   COLLATE "C" NOT NULL,
	claims     text[] COLLATE "C" NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now(),
	CONSTRAINT workload_id CHECK (id ~ '^w[0-9a-f]{8}$'),
	CONSTRAINT workload_texts CHECK (octet_length(issuer) BETWEEN 1 AND 256 AND octet_length(audience) BETWEEN 1 AND 256),
	CONSTRAINT workload_claims CHECK (cardinality(claims) BETWEEN 1 AND 20)
);
CREATE INDEX workload_account ON workload (account_id);
COMMENT ON TABLE workload IS 'kept: programs elsewhere that log in as a robot, with a token of their issuer (OIDC) as the password';
COMMENT ON COLUMN workload.id IS 'w and the first eight hexadecimal digits of a hash of the other columns; no token has such an id';
COMMENT ON COLUMN workload.account_id IS 'the robot';
COMMENT ON COLUMN workload.issuer IS 'the URL of who signs the tokens, as in their claim iss';
COMMENT ON COLUMN workload.audience IS 'for whom the tokens must be, as in their claim aud';
COMMENT ON COLUMN workload.claims IS 'what else the tokens must say, each NAME=VALUE; a value that ends with * is the beginning of that of the token';

-- +goose Down
DROP TABLE workload;
