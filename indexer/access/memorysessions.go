package access

import (
	"context"
	"encoding/hex"
	"fmt"
	"sync"
	"time"

	"github.com/portbook/portbook/indexer"
)

// maxInMemory is how many sessions a process keeps: 100,000, which take some 40 MB.
const maxInMemory = 100_000

// MemorySessions are sessions in the memory of one process. They end with it.
type MemorySessions struct {
	mu   sync.Mutex
	byID map[string]Session
	of   map[string][]string // ids by account, the oldest first
}

// NewMemorySessions returns no sessions.
func NewMemorySessions() *MemorySessions {
	return &MemorySessions{byID: map[string]Session{}, of: map[string][]string{}}
}

// Begin implements Sessions. It ends the oldest one of an account that has MaxSessions.
func (m *MemorySessions) Begin(_ context.Context, account string, validFrom time.Time) (string, time.Time, error) {
	text, hash := NewCookie()
	s := NewSession(account, validFrom, hash)
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.of[account]) >= MaxSessions {
		m.remove(m.byID[m.of[account][0]])
	}
	if len(m.byID) >= maxInMemory {
		m.forget(s.Signed)
	}
	if len(m.byID) >= maxInMemory {
		return "", time.Time{}, fmt.Errorf("there are %d sessions in memory, which is the most: %w", maxInMemory,
			indexer.ErrUnavailable)
	}
	m.byID[s.ID] = s
	m.of[account] = append(m.of[account], s.ID)
	return text, s.Expires, nil
}

// forget removes sessions that have ended by themselves.
func (m *MemorySessions) forget(now time.Time) {
	for _, s := range m.byID {
		if !now.Before(s.Expires) {
			m.remove(s)
		}
	}
}

func (m *MemorySessions) remove(s Session) {
	delete(m.byID, s.ID)
	var left []string
	for _, id := range m.of[s.Actor] {
		if id != s.ID {
			left = append(left, id)
		}
	}
	if m.of[s.Actor] = left; len(left) == 0 {
		delete(m.of, s.Actor)
	}
}

// Find implements Sessions.
func (m *MemorySessions) Find(_ context.Context, cookie string) (Session, error) {
	hash, err := CookieHash(cookie)
	if err != nil {
		return Session{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s, found := m.byID[hex.EncodeToString(hash)]
	if !found || !time.Now().Before(s.Expires) {
		return Session{}, ErrDenied
	}
	return s, nil
}

// End implements Sessions.
func (m *MemorySessions) End(_ context.Context, s Session) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.remove(s)
	return nil
}
