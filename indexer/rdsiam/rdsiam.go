// Package rdsiam logs in to Amazon RDS and Aurora by IAM: instead of a password
// each connection sends a token that AWS's SDK signs with the credentials of the
// workload. A token names one endpoint, one user and one region, and lets in for
// fifteen minutes; the connection then lives on.
//
// It promises a new token for each physical connection and that neither tokens
// nor credentials appear in its errors. Where the credentials come from, and
// when they are renewed, is left to AWS's SDK and its usual variables and files;
// TLS is left to the configuration of the connection.
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

// Detect, as a region, asks the instance metadata service for it.
const Detect = "detect"

const regionKey = "database.dynamicAuth.awsRdsIam.region"

const (
	// detectTimeout is enough for two requests to an address on the same host,
	// each tried three times; the ToolHive server waits as long.
	detectTimeout = 2 * time.Second
	// loadTimeout bounds reading AWS's files and variables. It asks the network
	// only with AWS_DEFAULTS_MODE=auto.
	loadTimeout = 5 * time.Second
	// credentialsTimeout bounds fetching credentials when the SDK's are about to
	// expire; a token from credentials at hand takes less than a millisecond.
	// Postgres itself allows a minute for a login (authentication_timeout).
	credentialsTimeout = 10 * time.Second
)

// Config says for which database tokens are made.
type Config struct {
	Region string       // of the database, such as eu-central-1, or Detect
	Log    *slog.Logger // takes what AWS's SDK warns of; nil: nobody
}

// An Auth makes tokens. It is safe for concurrent use.
type Auth struct {
	region      string
	credentials aws.CredentialsProvider // a cache, which renews them before they expire
}

// New reads AWS's configuration and, if it is asked to, detects the region. It
// does not fetch credentials yet: they may come later than the program.
func New(ctx context.Context, c Config) (*Auth, error) {
	if c.Region == "" {
		return nil, fmt.Errorf("%s is empty: write the region of the database, such as eu-central-1, or %s", regionKey, Detect)
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

// Region is the region that tokens are made for.
func (a *Auth) Region() string { return a.region }

// load reads AWS's configuration. The region is for services that credentials
// are fetched from, unless AWS_REGION names another.
func load(ctx context.Context, region string, log *slog.Logger) (aws.Config, error) {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	settings, err := awsconfig.LoadDefaultConfig(ctx, awsconfig.WithDefaultRegion(region), awsconfig.WithLogger(logger(log)))
	if err != nil {
		return settings, fmt.Errorf("configuration of AWS for database.dynamicAuth.awsRdsIam: %w: correct the AWS_* variables or the files that they name", err)
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

// detect asks the metadata service by its version 2 alone: a token first, then
// the instance identity document. Version 1, to which the SDK falls back by
// itself, answers whoever can make us fetch a URL.
func detect(ctx context.Context, settings aws.Config) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, detectTimeout)
	defer cancel()
	client := imds.NewFromConfig(settings, func(o *imds.Options) { o.EnableFallback = aws.FalseTernary })
	out, err := client.GetRegion(ctx, nil)
	if err != nil {
		return "", fmt.Errorf("%s is %q, but the instance metadata service (IMDSv2) did not tell the region within %v: %w:"+
			" write the region, such as eu-central-1, or let the workload reach IMDS (in a container on EC2 that takes a hop limit of 2)",
			regionKey, Detect, detectTimeout, err)
	}
	return out.Region, nil
}

// BeforeConnect gives one physical connection its password, a token made now.
// It is a hook of pgxpool and of pgx's database/sql driver, and c a copy that
// belongs to that connection. If c lists several hosts, each gets a token of its
// own.
//
// It returns ErrUnavailable if AWS gives no credentials.
func (a *Auth) BeforeConnect(ctx context.Context, c *pgx.ConnConfig) error {
	ctx, cancel := context.WithTimeout(ctx, credentialsTimeout)
	defer cancel()
	hosts := endpoints(c)
	tokens := map[string]string{}
	for _, h := range hosts {
		network, address := pgconn.NetworkAddress(h.Host, h.Port)
		if network != "tcp" {
			return fmt.Errorf("database.host: %q is a Unix socket, which RDS does not have: write the host of the RDS endpoint, or remove database.dynamicAuth", h.Host)
		}
		token, err := auth.BuildAuthToken(ctx, address, a.region, c.User, a.credentials)
		if err != nil {
			return fmt.Errorf("token of AWS IAM for user %q at %s: %w: %w:"+
				" give the workload an IAM role (or AWS_* variables) that may rds-db:connect as this user", c.User, address, err, indexer.ErrUnavailable)
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

// endpoints are the hosts that pgx tries, in its order.
func endpoints(c *pgx.ConnConfig) []*pgconn.FallbackConfig {
	return append([]*pgconn.FallbackConfig{{Host: c.Host, Port: c.Port}}, c.Fallbacks...)
}

var errNoToken = errors.New("no token was made for this host")

// byEndpoint makes a connection send to each host the token of that host. pgx
// has one password for all its attempts and tells its hooks addresses, not
// names; and one address may have two names, as the writer's and the reader's
// endpoint of an Aurora cluster with one instance. So names are looked up by the
// dialer, which then knows for whom it dials, and the password is set between
// dialling and logging in. The attempts of one connection follow each other.
func byEndpoint(c *pgx.ConnConfig, tokens map[string]string) {
	var dialled atomic.Pointer[string] // atomic: a request to cancel dials too, later
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
