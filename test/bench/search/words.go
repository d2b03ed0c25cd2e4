package main

import (
	"math"
	"math/rand/v2"
	"sort"
)

// vocabularySize is how many words there are: 50,000, of the 30,000 to 80,000
// that names and descriptions of a million real repositories have.
const vocabularySize = 50_000

// commonWords are what repositories are mostly called, most common first.
var commonWords = []string{
	"team", "api", "service", "server", "app", "data", "web", "nginx", "operator", "gateway",
	"test", "worker", "platform", "proxy", "base", "backend", "frontend", "client", "agent", "controller",
	"exporter", "image", "build", "builder", "demo", "cache", "sync", "manager", "user", "auth",
	"python", "node", "golang", "java", "redis", "postgres", "mysql", "kafka", "grafana", "prometheus",
	"alpine", "debian", "ubuntu", "runner", "tools", "cli", "core", "config", "event", "queue",
	"stream", "search", "index", "storage", "backup", "monitor", "metrics", "log", "alert", "dashboard",
	"payment", "order", "account", "billing", "invoice", "product", "catalog", "session", "profile", "token",
	"model", "training", "inference", "pipeline", "batch", "scheduler", "job", "task", "cron", "migrate",
	"envoy", "haproxy", "traefik", "vault", "consul", "etcd", "minio", "jenkins", "airflow", "spark",
	"mobile", "desktop", "game", "video", "media", "player", "map", "route", "device", "sensor",
}

// syllables of the other words. Words of two are the more common ones, as short
// words are in any language.
var syllables = []string{
	"ba", "ce", "dor", "el", "fen", "gar", "hal", "ix", "jor", "kel", "lum", "mor", "nax", "or", "pel", "quo",
	"rin", "syl", "tor", "ul", "vex", "wyr", "xan", "yar", "zeph", "be", "di", "go", "hu", "ka", "li", "mo",
	"na", "po", "ri", "su", "te", "vi", "zu", "bar", "dell", "fax", "gorn", "lith", "mant", "nox", "phane", "quist",
	"ryx", "stone", "thorn", "vane", "wick", "ar", "chi", "den", "er", "fol", "gre", "hin",
}

// newVocabulary gives the words, most common first.
func newVocabulary() []string {
	words := append([]string{}, commonWords...)
	seen := map[string]bool{}
	for _, w := range words {
		seen[w] = true
	}
	n := len(syllables)
	// Steps that share no factor with the number of words walk through all of
	// them, and neighbours in rank do not look alike.
	for i := 0; len(words) < vocabularySize; i++ {
		var w string
		if i < n*n {
			k := i * 1009 % (n * n)
			w = syllables[k/n] + syllables[k%n]
		} else {
			k := i * 7919 % (n * n * n)
			w = syllables[k/n/n] + syllables[k/n%n] + syllables[k%n]
		}
		if !seen[w] {
			seen[w] = true
			words = append(words, w)
		}
	}
	return words
}

// A zipf draws ranks from 0, each with a weight of one by its rank (from 1).
type zipf struct{ sums []float64 }

func newZipf(n int) zipf {
	z := zipf{sums: make([]float64, n)}
	sum := 0.0
	for i := range z.sums {
		sum += 1 / float64(i+1)
		z.sums[i] = sum
	}
	return z
}

func (z zipf) draw(r *rand.Rand) int {
	return sort.SearchFloat64s(z.sums, r.Float64()*z.sums[len(z.sums)-1])
}

// rankOf gives the rank of a word that comes once in so many draws.
func (z zipf) rankOf(draws float64) int {
	rank := draws / z.sums[len(z.sums)-1]
	return int(math.Min(rank, float64(len(z.sums)-1)))
}
