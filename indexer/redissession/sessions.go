// Package redissession keeps sessions of browsers in Redis, for all processes that use it.
//
// A session is a key with the hash of its cookie, which expires with the session. A second
// key of each account has the hashes of its sessions, so that there are not more than
// access.MaxSessions. Redis is asked about each request with a session, so an end is effective
// at once.
package redissession

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
)

const (
	// timeout limits a connection to Redis, a command and the wait for a free connection: 1 s.
	// A command takes less than 1 ms.
	timeout = time.Second
	// connections is how many a process has at most: 20.
	connections = 20
)

// Sessions are sessions in Redis. They implement access.Sessions.
type Sessions struct {
	client *redis.Client
	prefix string
}

// New returns the sessions in the Redis of a URL, whose keys begin with prefix. It does not
// wait for Redis.
func New(url, prefix string) (*Sessions, error) {
	o, err := redis.ParseURL(url)
	if err != nil {
		return nil, errors.New("auth.sessions.redis is not a URL of Redis (value not shown)")
	}
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = timeout, timeout, timeout, timeout
	o.ContextTimeoutEnabled, o.PoolSize, o.MaxActiveConns, o.MaxRetries = true, connections, connections, 1
	return &Sessions{redis.NewClient(o), prefix}, nil
}

func (s *Sessions) key(id string) string          { return s.prefix + "session:" + id }
func (s *Sessions) accountKey(name string) string { return s.prefix + "account:" + name }

// stored is the value of a session.
type stored struct {
	Account   string    `json:"account"`
	ValidFrom time.Time `json:"valid_from"`
	Began     time.Time `json:"began"`
	Expires   time.Time `json:"expires"`
}

// begin adds a session to those of its account, forgets those that have expired, and ends the
// oldest ones that are too many. It is one script, so that two sign-ins see each other.
var begin = redis.NewScript(`
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', ARGV[5])
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[3])
redis.call('EXPIRE', KEYS[2], ARGV[2])
local many = redis.call('ZCARD', KEYS[2]) - tonumber(ARGV[6])
if many > 0 then
	local old = redis.call('ZPOPMIN', KEYS[2], many)
	for i = 1, #old, 2 do redis.call('DEL', ARGV[7] .. old[i]) end
end`)

// Begin implements access.Sessions.
func (s *Sessions) Begin(ctx context.Context, account string, validFrom time.Time) (string, time.Time, error) {
	text, hash := access.NewCookie()
	n := access.NewSession(account, validFrom, hash)
	value, err := json.Marshal(stored{n.Actor, n.ValidFrom, n.Signed, n.Expires})
	if err != nil {
		return "", time.Time{}, err
	}
	err = begin.Run(ctx, s.client, []string{s.key(n.ID), s.accountKey(account)}, value,
		int(access.SessionLife/time.Second), n.ID, n.Expires.UnixMilli(), n.Signed.UnixMilli(), access.MaxSessions,
		s.key("")).Err()
	if err != nil && !errors.Is(err, redis.Nil) {
		return "", time.Time{}, away(err)
	}
	return text, n.Expires, nil
}

// Find implements access.Sessions.
func (s *Sessions) Find(ctx context.Context, cookie string) (access.Session, error) {
	hash, err := access.CookieHash(cookie)
	if err != nil {
		return access.Session{}, err
	}
	id := hex.EncodeToString(hash)
	value, err := s.client.Get(ctx, s.key(id)).Bytes()
	if errors.Is(err, redis.Nil) {
		return access.Session{}, access.ErrDenied
	}
	if err != nil {
		return access.Session{}, away(err)
	}
	var v stored
	if err := json.Unmarshal(value, &v); err != nil {
		return access.Session{}, fmt.Errorf("the session in Redis is not ours: another program may use the prefix %s",
			strconv.Quote(s.prefix))
	}
	if !time.Now().Before(v.Expires) {
		return access.Session{}, access.ErrDenied
	}
	return access.Session{ID: id, Actor: v.Account, ValidFrom: v.ValidFrom, Signed: v.Began, Expires: v.Expires}, nil
}

// End implements access.Sessions.
func (s *Sessions) End(ctx context.Context, session access.Session) error {
	_, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.Del(ctx, s.key(session.ID))
		p.ZRem(ctx, s.accountKey(session.Actor), session.ID)
		return nil
	})
	if err != nil {
		return away(err)
	}
	return nil
}

// away returns the error of a Redis that does not answer as it should. Its text may quote what
// Redis said, and never a cookie.
func away(err error) error {
	return fmt.Errorf("sessions in Redis: %.256s: %w", err, indexer.ErrUnavailable)
}
