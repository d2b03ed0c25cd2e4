-- Partitions of the history for moves of years ago, which are imported from the dump of another
-- book. Programs of before do not call this function.

-- +goose Up
-- +goose StatementBegin
CREATE FUNCTION create_history_partitions(since timestamptz) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER SET lock_timeout = '2s' SET timezone = 'UTC' AS $$
BEGIN
	LOCK TABLE ONLY tag_history IN SHARE UPDATE EXCLUSIVE MODE;
	RETURN QUERY
		SELECT made.name
		FROM generate_series(date_trunc('month', GREATEST(since, now() - interval '20 years')), date_trunc('month', now()), interval '1 month') AS months (month)
		CROSS JOIN LATERAL create_partition('tag_history', months.month) AS made (name)
		WHERE made.name IS NOT NULL;
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION create_history_partitions(timestamptz) IS 'makes the partitions of tag_history that are missing since a time, at most 20 years ago, and gives their names';
REVOKE EXECUTE ON FUNCTION create_history_partitions(timestamptz) FROM PUBLIC;
-- +goose StatementBegin
DO $$
BEGIN
	EXECUTE format('ALTER FUNCTION create_history_partitions(timestamptz) SET search_path = %I, pg_temp', current_schema());
END $$;
-- +goose StatementEnd

-- +goose Down
DROP FUNCTION create_history_partitions(timestamptz);
