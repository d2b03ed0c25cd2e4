-- What the registry reports enters audit too: pushes and deletions. Programs of before write
-- rows without the new columns, which say that the indexer did it itself.

-- +goose Up
ALTER TABLE audit
	ADD COLUMN claimed     text COLLATE "C" NOT NULL DEFAULT '',
	ADD COLUMN repository  text COLLATE "C" NOT NULL DEFAULT '',
	ADD COLUMN reported_at timestamptz;
COMMENT ON TABLE audit IS 'kept: changes of accounts, tokens and grants, sign-ins, refused logins, and what the registry reports; rows are never changed, a partition a month';
COMMENT ON COLUMN audit.at IS 'when it was recorded';
COMMENT ON COLUMN audit.actor IS 'who did it: an account, or cli:USER for the command line; empty if nobody has proved who it was';
COMMENT ON COLUMN audit.claimed IS 'the name that the client gave, which nobody has proved: if the login was refused, or if the registry does not check names by our tokens';
COMMENT ON COLUMN audit.target IS 'the account, token, grantee, tag or manifest that it was done to';
COMMENT ON COLUMN audit.repository IS 'the repository of the tag or manifest that it was done to; empty if there is none';
COMMENT ON COLUMN audit.reported_at IS 'when it happened, as the registry reports; null if the indexer did it itself';
COMMENT ON COLUMN audit.request IS 'the id of the request, which the log of the indexer has too, or of the registry if it reports it; empty for the command line';
COMMENT ON COLUMN audit.detail IS 'what was granted, what a token is limited to, or which digest was pushed';
CREATE INDEX audit_repository ON audit (repository, id DESC) WHERE repository <> '';
CREATE INDEX audit_event ON audit (event, id DESC);
CREATE INDEX audit_refused ON audit (id DESC) WHERE outcome = 'refused';
CREATE INDEX audit_at ON audit (at);

ALTER TABLE token ADD COLUMN last_used timestamptz;
COMMENT ON COLUMN token.last_used IS 'when it was last used, an hour less exact; null: never, as far as a writer has seen. It is no part of access_version';

-- A program that works with the book may drop old events, but not the records of what it did.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION drop_partitions(parent text, keep interval) RETURNS SETOF text
LANGUAGE plpgsql STRICT SECURITY DEFINER SET lock_timeout = '2s' SET timezone = 'UTC' AS $$
DECLARE
	child text;
BEGIN
	IF parent NOT IN ('event', 'tag_history', 'audit') THEN
		RAISE EXCEPTION 'table % is not one whose partitions are dropped: event, tag_history and audit are', parent USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF parent = 'audit' AND NOT pg_has_role(session_user, current_user, 'USAGE') THEN
		RAISE EXCEPTION 'only % may drop partitions of audit', current_user USING ERRCODE = 'insufficient_privilege';
	END IF;
	FOR child IN
		SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
		WHERE i.inhparent = parent::regclass AND CASE WHEN c.relname::text ~ ('^' || parent || '_[0-9]{4}_[0-9]{2}$')
			THEN to_timestamp(right(c.relname::text, 7), 'YYYY_MM') + interval '1 month' <= now() - GREATEST(keep, interval '8 days') END
		ORDER BY 1
	LOOP
		EXECUTE format('DROP TABLE %I.%I', current_schema(), child);
		RETURN NEXT child;
	END LOOP;
END $$;
-- +goose StatementEnd
-- +goose StatementBegin
DO $$
BEGIN
	EXECUTE format('ALTER FUNCTION drop_partitions(text, interval) SET search_path = %I, pg_temp', current_schema());
END $$;
-- +goose StatementEnd

-- +goose Down
ALTER TABLE token DROP COLUMN last_used;
DROP INDEX audit_at, audit_refused, audit_event, audit_repository;
ALTER TABLE audit DROP COLUMN claimed, DROP COLUMN repository, DROP COLUMN reported_at;
COMMENT ON TABLE audit IS 'kept: changes of accounts, tokens and grants, and sign-ins; rows are never changed, a partition a month';
COMMENT ON COLUMN audit.at IS NULL;
COMMENT ON COLUMN audit.actor IS 'who did it: an account, cli:USER for the command line, or the name that was typed if the login was refused';
COMMENT ON COLUMN audit.target IS 'the account, token or grantee that it was done to';
COMMENT ON COLUMN audit.request IS 'the id of the request, which the log has too; empty for the command line';
COMMENT ON COLUMN audit.detail IS 'what was granted, or what a token is limited to';
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION drop_partitions(parent text, keep interval) RETURNS SETOF text
LANGUAGE plpgsql STRICT SECURITY DEFINER SET lock_timeout = '2s' SET timezone = 'UTC' AS $$
DECLARE
	child text;
BEGIN
	IF parent NOT IN ('event', 'tag_history', 'audit') THEN
		RAISE EXCEPTION 'table % is not one whose partitions are dropped: event, tag_history and audit are', parent USING ERRCODE = 'invalid_parameter_value';
	END IF;
	FOR child IN
		SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
		WHERE i.inhparent = parent::regclass AND CASE WHEN c.relname::text ~ ('^' || parent || '_[0-9]{4}_[0-9]{2}$')
			THEN to_timestamp(right(c.relname::text, 7), 'YYYY_MM') + interval '1 month' <= now() - GREATEST(keep, interval '8 days') END
		ORDER BY 1
	LOOP
		EXECUTE format('DROP TABLE %I.%I', current_schema(), child);
		RETURN NEXT child;
	END LOOP;
END $$;
-- +goose StatementEnd
-- +goose StatementBegin
DO $$
BEGIN
	EXECUTE format('ALTER FUNCTION drop_partitions(text, interval) SET search_path = %I, pg_temp', current_schema());
END $$;
-- +goose StatementEnd
