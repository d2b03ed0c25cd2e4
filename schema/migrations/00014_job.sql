-- The states of the leader's jobs, so that every process can show them. The leader
-- reports at least every 20 s; a report that is older than a minute says that it no
-- longer leads. Programs of before neither read nor write these tables.

-- +goose Up
CREATE TABLE leader (
	one         boolean PRIMARY KEY DEFAULT true,
	since       timestamptz NOT NULL,
	reported_at timestamptz NOT NULL,
	CONSTRAINT leader_one CHECK (one)
) WITH (fillfactor = 10);
COMMENT ON TABLE leader IS 'derived: the process that leads, or led last; no row before the first report';
COMMENT ON COLUMN leader.since IS 'when its first report was stored; a process whose first report was stored at another time does not lead any more';
COMMENT ON COLUMN leader.reported_at IS 'when its last report was stored';

CREATE TABLE job (
	name       text COLLATE "C" PRIMARY KEY,
	place      int     NOT NULL,
	running    boolean NOT NULL,
	last_begin timestamptz,
	last_end   timestamptz,
	last_error text    NOT NULL,
	next_at    timestamptz
) WITH (fillfactor = 10);
COMMENT ON TABLE job IS 'derived: the jobs of the leader, as it last reported them; each leader replaces them';
COMMENT ON COLUMN job.place IS 'in the order in which they are shown, from 1';
COMMENT ON COLUMN job.running IS 'whether it ran when its leader reported; the leader may have died since';
COMMENT ON COLUMN job.last_begin IS 'of the last run; null before the first';
COMMENT ON COLUMN job.last_end IS 'of the last run that ended; null before the first';
COMMENT ON COLUMN job.last_error IS 'why the last run that ended failed, in words for everybody; they begin with "the ". Empty if it succeeded';
COMMENT ON COLUMN job.next_at IS 'when it runs next; null while it runs, and when its leader has stopped';

-- +goose Down
DROP TABLE job, leader;
