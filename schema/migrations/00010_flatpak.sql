-- In which repository a flatpak was seen first: that one serves it. No scan could
-- tell, and whoever pushes the same ref to another repository must not gain it by
-- one.

-- +goose Up
CREATE TABLE flatpak_ref (
	repository    text COLLATE "C" NOT NULL,
	ref           text COLLATE "C" NOT NULL,
	first_seen_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (repository, ref)
);
COMMENT ON TABLE flatpak_ref IS 'kept: which flatpaks were seen in which repository; the first serves one that others have too';
COMMENT ON COLUMN flatpak_ref.ref IS 'the label org.flatpak.ref of an image';

-- What stands in the book already was seen when its first image was read.
INSERT INTO flatpak_ref (repository, ref, first_seen_at)
SELECT r.name, m.labels ->> 'org.flatpak.ref', min(m.seen_at) FROM image_search i
JOIN manifest m ON m.repository_id = i.repository_id AND m.id = i.manifest_id
JOIN repository r ON r.id = i.repository_id
WHERE i.keys @> ARRAY[hashtextextended('label:org.flatpak.ref', 0)] AND octet_length(m.labels ->> 'org.flatpak.ref') BETWEEN 1 AND 512
GROUP BY r.name, m.labels ->> 'org.flatpak.ref';

-- +goose Down
DROP TABLE flatpak_ref;
