-- Webhooks: whom we tell what happened, and what was told. Programs of before neither read nor
-- write these tables, so they queue nothing for a webhook.

-- +goose Up
CREATE TABLE webhook (
	id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	name          text   NOT NULL,
	url           text   NOT NULL,
	pattern       text   COLLATE "C" NOT NULL,
	events        text[] COLLATE "C" NOT NULL,
	secret        bytea  NOT NULL,
	old_secret    bytea,
	old_until     timestamptz,
	enabled       boolean NOT NULL DEFAULT true,
	problem       text   NOT NULL DEFAULT '',
	created_by    text   NOT NULL,
	created_at    timestamptz NOT NULL DEFAULT now(),
	waiting       int    NOT NULL DEFAULT 0,
	missing_since timestamptz,
	failures      int    NOT NULL DEFAULT 0,
	failing_since timestamptz,
	rest_until    timestamptz,
	claims        bigint NOT NULL DEFAULT 0,
	leased_until  timestamptz,
	CONSTRAINT webhook_name CHECK (char_length(name) BETWEEN 1 AND 100),
	CONSTRAINT webhook_url CHECK (octet_length(url) BETWEEN 1 AND 2048),
	CONSTRAINT webhook_events CHECK (cardinality(events) BETWEEN 1 AND 20),
	CONSTRAINT webhook_problem CHECK (NOT enabled OR problem = '')
) WITH (fillfactor = 50);
CREATE INDEX webhook_pattern ON webhook (pattern);
COMMENT ON TABLE webhook IS 'kept: receivers of events, by the repositories that they hear of';
COMMENT ON COLUMN webhook.pattern IS '* for all repositories, team/* for those below team, or one name';
COMMENT ON COLUMN webhook.events IS 'the types of events that are sent, such as pushed';
COMMENT ON COLUMN webhook.secret IS 'what signs the deliveries, encrypted with webhooks.key of the configuration (AES-256-GCM)';
COMMENT ON COLUMN webhook.old_secret IS 'the secret of before a rotation, which signs too until old_until';
COMMENT ON COLUMN webhook.problem IS 'why the indexer itself has paused the webhook; empty if it has not';
COMMENT ON COLUMN webhook.created_by IS 'an account, or cli:USER for the command line';
COMMENT ON COLUMN webhook.waiting IS 'number of deliveries that wait, as the leader last counted';
COMMENT ON COLUMN webhook.missing_since IS 'since when no events are queued, because too many wait or it is not enabled; the receiver is told when it ends';
COMMENT ON COLUMN webhook.failures IS 'number of attempts that failed since the last one that did not';
COMMENT ON COLUMN webhook.rest_until IS 'after a failure: when the next attempt may be';
COMMENT ON COLUMN webhook.claims IS 'how often a writer has claimed it: a writer whose number is older delivers no more';

CREATE TABLE webhook_delivery (
	id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	webhook_id  bigint NOT NULL,
	event       text   COLLATE "C" NOT NULL,
	type        text   COLLATE "C" NOT NULL,
	subject     text   NOT NULL,
	data        json   NOT NULL,
	happened_at timestamptz NOT NULL,
	queued_at   timestamptz NOT NULL DEFAULT now(),
	state       text   NOT NULL DEFAULT 'waiting',
	next_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
	attempts    int    NOT NULL DEFAULT 0,
	tried_at    timestamptz,
	status      int    NOT NULL DEFAULT 0,
	reason      text   NOT NULL DEFAULT '',
	took        int    NOT NULL DEFAULT 0,
	ended_at    timestamptz,
	CONSTRAINT webhook_delivery_state CHECK (state IN ('waiting', 'delivered', 'failed')),
	CONSTRAINT webhook_delivery_ended CHECK ((state = 'waiting') = (ended_at IS NULL))
);
CREATE INDEX webhook_delivery_log ON webhook_delivery (webhook_id, id);
CREATE INDEX webhook_delivery_waiting ON webhook_delivery (webhook_id, next_at, id) WHERE state = 'waiting';
CREATE INDEX webhook_delivery_ping ON webhook_delivery (webhook_id) WHERE state = 'waiting' AND type = 'ping';
CREATE INDEX webhook_delivery_ended ON webhook_delivery (ended_at) WHERE state <> 'waiting';
COMMENT ON TABLE webhook_delivery IS 'kept: events to be sent to a webhook, and those that were sent lately';
COMMENT ON COLUMN webhook_delivery.webhook_id IS 'of webhook. It is no foreign key, so that no push waits for a change of a webhook, or fails by it';
COMMENT ON COLUMN webhook_delivery.event IS 'the id of the event, which is the same in the deliveries to all webhooks';
COMMENT ON COLUMN webhook_delivery.data IS 'the data of the CloudEvent';
COMMENT ON COLUMN webhook_delivery.queued_at IS 'when it was queued, or queued again by redeliver: attempts end three days later';
COMMENT ON COLUMN webhook_delivery.next_at IS 'when the next attempt may be, while it waits; deliveries are sent in this order. Not the begin of the transaction: of two moves of a tag the later one must be later here';
COMMENT ON COLUMN webhook_delivery.status IS 'the status code of the last answer; 0: there was none';
COMMENT ON COLUMN webhook_delivery.reason IS 'why the last attempt failed, in our own words';
COMMENT ON COLUMN webhook_delivery.took IS 'milliseconds of the last attempt';

-- +goose Down
DROP TABLE webhook_delivery, webhook;
