package content

// The words of made-up images. Order matters: earlier words are more common, by Zipf's
// law, so that a registry has a few very common words and a long tail of rare ones, as
// real ones have.

var teams = []string{
	"platform", "payments", "data", "web", "infra", "ml", "identity", "checkout", "search", "mobile",
	"observability", "security", "billing", "catalog", "logistics", "growth", "messaging", "analytics", "fraud", "support",
	"storefront", "inventory", "pricing", "risk", "compliance", "devtools", "edge", "media", "iot", "partners",
	"research", "finance", "hr", "legal", "maps", "ads", "video", "games", "labs", "sandbox",
}

var subjects = []string{
	"user", "order", "event", "session", "product", "account", "invoice", "image", "report", "config",
	"cart", "profile", "token", "metric", "log", "email", "document", "device", "shipment", "feature",
	"policy", "audit", "schedule", "webhook", "ledger", "refund", "coupon", "address", "tax", "currency",
	"review", "rating", "recommendation", "segment", "campaign", "ticket", "alert", "trace", "secret", "certificate",
	"cluster", "node", "volume", "backup", "snapshot", "pipeline", "dataset", "model", "embedding", "index",
	"forecast", "route", "vehicle", "warehouse", "pallet", "barcode", "contract", "consent", "subtitle", "playlist",
}

var kinds = []string{
	"api", "service", "worker", "gateway", "frontend", "proxy", "operator", "exporter", "sync", "controller",
	"consumer", "scheduler", "cli", "agent", "migrator", "importer", "indexer", "cache", "bot", "dashboard",
	"sidecar", "collector", "streamer", "renderer", "resolver",
	"validator", "notifier", "archiver", "simulator", "toolbox",
}

// Third-party software, repackaged by teams.
var upstreams = []string{
	"nginx", "postgres", "redis", "alpine", "python", "node", "golang", "java", "kafka", "grafana",
	"prometheus", "envoy", "haproxy", "mysql", "mongo", "rabbitmq", "elasticsearch", "vault", "consul", "traefik",
	"keycloak", "minio", "jenkins", "sonarqube", "nexus", "airflow", "spark", "flink", "superset", "clickhouse",
}

// Syllables of code names, which are the rare words.
var (
	firstSyllables = []string{
		"ba", "ce", "dor", "el", "fen", "gar", "hal", "ix", "jor", "kel", "lum", "mor", "nax", "or", "pel", "quo",
		"rin", "syl", "tor", "ul", "vex", "wyr", "xan", "yar", "zeph",
	}
	middleSyllables = []string{"a", "be", "di", "go", "hu", "ka", "li", "mo", "na", "po", "ri", "su", "te", "vi", "zu"}
	lastSyllables   = []string{
		"bar", "dell", "fax", "gorn", "lith", "mant", "nox", "phane", "quist", "ryx", "stone", "thorn", "vane",
		"wick",
	}
)

var (
	vendors = []string{
		"Example Corp", "Acme GmbH", "Globex", "Initech", "Contoso", "Northwind Traders", "Hooli",
		"Tyrell Research",
	}
	licenses = []string{
		"Apache-2.0", "MIT", "Proprietary", "BSD-3-Clause", "MPL-2.0", "GPL-3.0-only", "AGPL-3.0-or-later",
		"EUPL-1.2",
	}
	languages = []string{
		"Go", "Java", "Python", "TypeScript", "Rust", "Kotlin", "C++", "Ruby", "Elixir", "Scala", "PHP", "Zig",
	}
	stores = []string{
		"PostgreSQL", "Redis", "Kafka", "MySQL", "S3", "MongoDB", "Elasticsearch", "Cassandra", "SQLite",
		"ClickHouse",
	}
	verbs = []string{
		"handles", "stores", "routes", "validates", "renders", "aggregates", "exports", "replicates", "enriches",
		"reconciles",
	}
	bases = []string{
		"debian:bookworm-slim", "alpine:3.20", "gcr.io/distroless/static", "ubuntu:24.04", "scratch",
		"rockylinux:9",
	}
)
