-- Which server wrote the catalogue version last. After a failover that lost
-- commits, or a restore, the numbers repeat with other content: the first writer
-- that finds another server than the one written here changes the epoch.

-- +goose Up
ALTER TABLE catalogue_epoch ADD COLUMN cluster text NOT NULL DEFAULT '';
COMMENT ON COLUMN catalogue_epoch.cluster IS 'system identifier and timeline of the server that wrote last; empty before the first write';

-- +goose Down
ALTER TABLE catalogue_epoch DROP COLUMN cluster;
