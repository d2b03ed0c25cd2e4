package main

import (
	"math"
	"math/rand/v2"
	"sort"
)

// vocabularySize is the number of words: 50,000. The names and descriptions of a
// million real repositories have 30,000 to 80,000.
const vocabularySize = 50_000

// commonWords are the most common words of names, most common first.
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

// syllables of the other words. Words of two syllables are the more common ones, as
// short words are in any language.
var syllables = []string{
	"ba", "ce", "dor", "el", "fen", "gar", "hal", "ix", "jor", "kel", "lum", "mor", "nax", "or", "pel", "quo",
	"rin", "syl", "tor", "ul", "vex", "wyr", "xan", "yar", "zeph", "be", "di", "go", "hu", "ka", "li", "mo",
	"na", "po", "ri", "su", "te", "vi", "zu", "bar", "dell", "fax", "gorn", "lith", "mant", "nox", "phane", "quist",
	"ryx", "stone", "thorn", "vane", "wick", "ar", "chi", "den", "er", "fol", "gre", "hin",
}

// newVocabulary returns the words, most common first.
func newVocabulary() []string {
	words := append([]string{}, commonWords...)
	seen := map[string]bool{}
	for _, w := range words {
		seen[w] = true
	}
	n := len(syllables)
	// Steps that share no factor with the number of words visit all of them, and words
	// of neighbouring ranks do not look alike.
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

// A zipf draws ranks from 0; the weight of a rank is 1 / (rank+1).
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

// rankOf returns the rank that is drawn once in the given number of draws.
func (z zipf) rankOf(draws float64) int {
	rank := draws / z.sums[len(z.sums)-1]
	return int(math.Min(rank, float64(len(z.sums)-1)))
}
