-- The tags of an image index no longer stand in the rows of the images in it: each
-- tag of an index of a thousand images cost all tags before it, a thousand times.
-- The rows are written again when an indexer begins to lead; until then those of
-- an older program say more than they should in a search by tag, and nothing else.

-- +goose Up
COMMENT ON COLUMN image_search.latest IS 'whether the tag latest shows it, itself or by an image index that lists it';
COMMENT ON COLUMN image_search.listed IS 'whether an image index that has a tag lists it';
COMMENT ON COLUMN image_search.tags IS 'that show it itself, sorted; not those of the image indexes that list it';
COMMENT ON COLUMN image_search.pushed_at IS 'when a tag last came to show it, itself or by an image index that lists it';

-- +goose Down
COMMENT ON COLUMN image_search.latest IS 'whether one of the tags is latest';
COMMENT ON COLUMN image_search.listed IS 'whether an image index that has a tag lists it; if not, tags are its own';
COMMENT ON COLUMN image_search.tags IS 'that show it, sorted';
COMMENT ON COLUMN image_search.pushed_at IS 'when one of its tags last came to show it';
