package main

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// Naive statements are the obvious ones: they answer the same questions from the same
// tables, without an index.

func likeWord(word func(draw) string, offset int) func(draw) (string, []any) {
	return func(d draw) (string, []any) {
		return fmt.Sprintf(`
			SELECT name, description FROM repository_search WHERE name LIKE '%%' || $1 || '%%' OR description ILIKE '%%' || $1 || '%%'
			ORDER BY updated_at DESC LIMIT 25 OFFSET %d`, offset), []any{word(d)}
	}
}

func twoWords(d draw) (string, []any) {
	return `
		SELECT name, description FROM repository_search
		WHERE to_tsvector('simple', translate(name, '/-', '  ') || ' ' || description) @@ plainto_tsquery('simple', $1)
		ORDER BY updated_at DESC LIMIT 25`, []any{d.two()}
}

func likePrefix(letters int) func(draw) (string, []any) {
	return func(d draw) (string, []any) {
		return `SELECT name FROM repository_search WHERE name LIKE $1 || '%' OR name LIKE '%/' || $1 || '%' ORDER BY length(name) LIMIT 10`,
			[]any{d.prefix(letters)}
	}
}

// taggedImages selects images with a tag. Images in image indexes, which the program
// finds too, are left out: with them the statement takes minutes on 20,000 repositories
// (measured).
const taggedImages = `
	SELECT DISTINCT r.name FROM repository r JOIN tag t ON t.repository_id = r.id
	JOIN manifest m ON m.repository_id = r.id AND m.id = t.manifest_id
	LEFT JOIN platform p ON p.id = m.platform_id`

func naiveLabel(query func(draw) string) func(draw) (string, []any) {
	return func(d draw) (string, []any) {
		key, value, valued := strings.Cut(strings.TrimPrefix(query(d), "label:"), "=")
		if !valued {
			return taggedImages + " WHERE m.labels ? $1 ORDER BY r.name LIMIT 25", []any{key}
		}
		return taggedImages + " WHERE m.labels ->> $1 = $2 ORDER BY r.name LIMIT 25", []any{key, value}
	}
}

func naivePlatform(d draw) (string, []any) {
	platform, word, _ := strings.Cut(strings.TrimPrefix(d.platformAndWord(), "platform:"), " ")
	return taggedImages + `
		WHERE r.name LIKE '%' || $1 || '%' AND p.os || '/' || p.architecture = $2 ORDER BY r.name LIMIT 25`, []any{word, platform}
}

func naiveNewest(draw) (string, []any) {
	return "SELECT name, description FROM repository_search ORDER BY updated_at DESC LIMIT 25", nil
}

func naiveFlatpak(d draw) (string, []any) {
	return taggedImages + `
		WHERE m.labels ? 'org.flatpak.ref' AND p.os = 'linux' AND p.architecture = 'amd64' AND t.name = 'latest'
		ORDER BY r.name`, nil
}

func naiveTags(d draw) (string, []any) {
	return `
		SELECT t.name, m.digest, m.content_size FROM repository r JOIN tag t ON t.repository_id = r.id
		JOIN manifest m ON m.repository_id = r.id AND m.id = t.manifest_id
		WHERE r.name = $1 ORDER BY t.moved_at DESC LIMIT 50 OFFSET $2`, []any{manyTagsName, d.IntN(manyTags)}
}

func naiveDigest(d draw) (string, []any) {
	manifests := d.made().manifest
	return `
		SELECT r.name FROM manifest m JOIN repository r ON r.id = m.repository_id
		WHERE encode(m.digest, 'hex') LIKE $1 || '%' LIMIT 25`, []any{hex.EncodeToString(digestOf(manifests[0]))[:12]}
}

func naiveFacets(d draw) (string, []any) {
	return `
		SELECT f, count(*) FROM repository_search, unnest(facts) AS f WHERE name LIKE '%' || $1 || '%' OR description ILIKE '%' || $1 || '%'
		GROUP BY f ORDER BY 2 DESC`, []any{d.common()}
}
