-- What a scan had come to at its cursor, so that who takes it over goes on counting
-- from there.

-- +goose Up
ALTER TABLE scan ADD COLUMN cursor_counts int[] NOT NULL DEFAULT '{0,0,0,0}';
COMMENT ON COLUMN scan.cursor_counts IS 'repositories, tags, changed and errors up to the cursor; the columns of those names have what was looked at beyond it too';

-- +goose Down
ALTER TABLE scan DROP COLUMN cursor_counts;
