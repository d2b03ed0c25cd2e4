-- How much of what is limited for each user was used, for all processes. The rows may be lost
-- at any time, as in a crash of the server or a failover: then nothing was used. So the
-- table is not logged, and a standby does not have its rows. Programs of before neither read
-- nor write it.

-- +goose Up
CREATE UNLOGGED TABLE rate_limit (
	key     text COLLATE "C" PRIMARY KEY,
	full_at timestamptz NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE rate_limit IS 'derived: how much of what is limited was used, as by the generic cell rate algorithm; a missing row means nothing';
COMMENT ON COLUMN rate_limit.key IS 'what is limited for whom, such as write alice';
COMMENT ON COLUMN rate_limit.full_at IS 'when all of it may be used again; afterwards the row is not needed';

-- +goose Down
DROP TABLE rate_limit;
