// Package rdsiam logs in to Amazon RDS and Aurora with IAM: each connection sends a
// token instead of a password. AWS's SDK signs it with the credentials of the
// workload. A token is for one endpoint, user and region, and is valid for fifteen
// minutes; a connection that is open stays open.
//
// Each physical connection gets a new token. Errors contain neither tokens nor
// credentials. The SDK finds and renews the credentials by its usual variables and
// files. The package does not configure TLS.
package rdsiam

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/feature/rds/auth"
	"github.com/aws/smithy-go/logging"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/portbook/portbook/indexer"
)

// Detect is the region that means: ask the instance metadata service.
const Detect = "detect"

const regionKey = "database.dynamicAuth.awsRdsIam.region"

const (
	// detectTimeout is enough for two requests to an address on the same host, with
	// three attempts each. The ToolHive server has the same limit.
	detectTimeout = 2 * time.Second
	// loadTimeout limits reading AWS's files and variables, which uses the network
	// only with AWS_DEFAULTS_MODE=auto.
	loadTimeout = 5 * time.Second
	// credentialsTimeout limits fetching credentials when the SDK's are about to
	// expire; a token from cached credentials takes less than a millisecond.
	// Postgres allows a minute for a login (authentication_timeout).
	credentialsTimeout = 10 * time.Second
)

// Config configures tokens.
type Config struct {
	Region string       // of the database, such as eu-central-1, or Detect
	Log    *slog.Logger // for warnings of AWS's SDK; nil: none
}

// An Auth creates tokens. It is safe for concurrent use.
type Auth struct {
	region      string
	credentials aws.CredentialsProvider // caches them, and renews them before they expire
}

// New reads AWS's configuration and, if the region is Detect, asks for the region. It
// does not fetch credentials, which may not be available yet.
func New(ctx context.Context, c Config) (*Auth, error) {
	if c.Region == "" {
		return nil, fmt.Errorf("%s is empty: write the region of the database, such as eu-central-1, or %s",
			regionKey, Detect)
	}
	region := c.Region
	if region == Detect {
		settings, err := load(ctx, "", c.Log)
		if err != nil {
			return nil, err
		}
		if region, err = detect(ctx, settings); err != nil {
			return nil, err
		}
	}
	settings, err := load(ctx, region, c.Log)
	if err != nil {
		return nil, err
	}
	return &Auth{region: region, credentials: settings.Credentials}, nil
}

// Region returns the region of the tokens.
func (a *Auth) Region() string { return a.region }

// load reads AWS's configuration. The SDK fetches credentials from services in the
// region, unless AWS_REGION names another.
func load(ctx context.Context, region string, log *slog.Logger) (aws.Config, error) {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	settings, err := awsconfig.LoadDefaultConfig(ctx, awsconfig.WithDefaultRegion(region), awsconfig.WithLogger(logger(log)))
	if err != nil {
		return settings, fmt.Errorf("configuration of AWS for database.dynamicAuth.awsRdsIam: %w: correct the"+
			" AWS_* variables or the files that they name", err)
	}
	return settings, nil
}

func logger(log *slog.Logger) logging.Logger {
	if log == nil {
		return logging.Nop{}
	}
	return logging.LoggerFunc(func(_ logging.Classification, format string, v ...any) {
		log.Warn("AWS SDK", "message", fmt.Sprintf(format, v...))
	})
}

// detect asks the metadata service for the region, by version 2 of its API: first for
// a token, then for the instance identity document. The SDK's fallback to version 1
// is off, since that answers anybody who can make us fetch a URL.
func detect(ctx context.Context, settings aws.Config) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, detectTimeout)
	defer cancel()
	client := imds.NewFromConfig(settings, func(o *imds.Options) { o.EnableFallback = aws.FalseTernary })
	out, err := client.GetRegion(ctx, nil)
	if err != nil {
		return "", fmt.Errorf("%s is %q, but the instance metadata service (IMDSv2) did not return the region within %v: %w:"+
			" write the region, such as eu-central-1, or let the workload reach IMDS (a container on EC2 needs a hop limit of 2)",
			regionKey, Detect, detectTimeout, err)
	}
	return out.Region, nil
}

// BeforeConnect sets the password of one physical connection to a new token. It is a
// hook of pgxpool and of pgx's database/sql driver; c belongs to that connection. If
// c has several hosts, each gets its own token.
//
// It returns ErrUnavailable if AWS returns no credentials.
func (a *Auth) BeforeConnect(ctx context.Context, c *pgx.ConnConfig) error {
	ctx, cancel := context.WithTimeout(ctx, credentialsTimeout)
	defer cancel()
	hosts := endpoints(c)
	tokens := map[string]string{}
	for _, h := range hosts {
		network, address := pgconn.NetworkAddress(h.Host, h.Port)
		if network != "tcp" {
			return fmt.Errorf("database.host: %q is a Unix socket, which RDS does not support: write the host of"+
				" the RDS endpoint, or remove database.dynamicAuth", h.Host)
		}
		token, err := auth.BuildAuthToken(ctx, address, a.region, c.User, a.credentials)
		if err != nil {
			return fmt.Errorf("token of AWS IAM for user %q at %s: %w: %w:"+
				" give the workload an IAM role (or AWS_* variables) that allows rds-db:connect as this user", c.User, address, err, indexer.ErrUnavailable)
		}
		tokens[address] = token
	}
	_, first := pgconn.NetworkAddress(hosts[0].Host, hosts[0].Port)
	c.Password = tokens[first]
	if len(tokens) > 1 {
		byEndpoint(c, tokens)
	}
	return nil
}

// endpoints returns the hosts in the order in which pgx tries them.
func endpoints(c *pgx.ConnConfig) []*pgconn.FallbackConfig {
	return append([]*pgconn.FallbackConfig{{Host: c.Host, Port: c.Port}}, c.Fallbacks...)
}

var errNoToken = errors.New("no token was created for this host")

// byEndpoint makes a connection send each host its own token. pgx has one password
// for all attempts and passes addresses, not names, to its hooks; and two names may
// have one address, such as the writer and the reader endpoint of an Aurora cluster
// with one instance. So the dialer resolves the names itself, and the password is set
// after dialling and before the login. The attempts of a connection are sequential.
func byEndpoint(c *pgx.ConnConfig, tokens map[string]string) {
	var dialled atomic.Pointer[string] // atomic: a cancel request dials too
	c.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
	dial := c.DialFunc
	c.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if token, ok := tokens[address]; ok {
			dialled.Store(&token)
		}
		return dial(ctx, network, address)
	}
	before := c.AfterNetConnect
	c.AfterNetConnect = func(ctx context.Context, attempt *pgconn.Config, conn net.Conn) (net.Conn, error) {
		token := dialled.Swap(nil)
		if token == nil {
			return conn, errNoToken
		}
		attempt.Password = *token
		if before != nil {
			return before(ctx, attempt, conn)
		}
		return conn, nil
	}
}
