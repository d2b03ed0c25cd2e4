package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/retention"
)

// A ruleRow is a row of retention_rule.
type ruleRow struct {
	ID                    int64
	Pattern, Action, Note string
	Conditions            []byte
	CreatedAt             time.Time
	CreatedBy             string
}

const ruleColumns = "id, pattern, action, conditions, note, created_at, created_by"

// storedConditions are conditions as JSON in the database: durations in seconds.
type storedConditions struct {
	Newest       int    `json:"newest,omitempty"`
	By           string `json:"by,omitempty"`
	PushedWithin int64  `json:"pushed_within,omitempty"`
	PulledWithin int64  `json:"pulled_within,omitempty"`
	OlderThan    int64  `json:"older_than,omitempty"`
	Tag          string `json:"tag,omitempty"`
	TagRegexp    string `json:"tag_regexp,omitempty"`
	Semver       string `json:"semver,omitempty"`
	Untagged     bool   `json:"untagged,omitempty"`
	Label        string `json:"label,omitempty"`
}

func storedConditionsOf(c retention.Conditions) storedConditions {
	return storedConditions{
		Newest: c.Newest, By: c.By, PushedWithin: int64(c.PushedWithin / time.Second),
		PulledWithin: int64(c.PulledWithin / time.Second),
		OlderThan:    int64(c.OlderThan / time.Second), Tag: c.Tag, TagRegexp: c.TagRegexp, Semver: c.Semver,
		Untagged: c.Untagged,
		Label:    c.Label,
	}
}

func (c storedConditions) conditions() retention.Conditions {
	return retention.Conditions{
		Newest: c.Newest, By: c.By, PushedWithin: time.Duration(c.PushedWithin) * time.Second,
		PulledWithin: time.Duration(c.PulledWithin) * time.Second, OlderThan: time.Duration(c.OlderThan) * time.Second,
		Tag:       c.Tag,
		TagRegexp: c.TagRegexp, Semver: c.Semver, Untagged: c.Untagged, Label: c.Label,
	}
}

func (r ruleRow) rule() (rule retention.Rule, err error) {
	rule = retention.Rule{
		ID: r.ID, Action: retention.Action(r.Action), Note: r.Note, CreatedAt: r.CreatedAt, CreatedBy: r.CreatedBy,
	}
	var c storedConditions
	if rule.Pattern, err = access.ParsePattern(r.Pattern); err == nil {
		err = json.Unmarshal(r.Conditions, &c)
	}
	rule.Conditions = c.conditions()
	if err == nil {
		err = rule.Check()
	}
	if err != nil {
		return rule, fmt.Errorf("the stored rule %d: %s", r.ID, err) // not ErrInvalid: it is not the client's
	}
	return rule, nil
}

func rulesIn(ctx context.Context, db pg.Querier, sql string, args ...any) (all []retention.Rule, err error) {
	rows, err := pg.Collect[ruleRow](ctx, db, sql, args...)
	if err != nil {
		return nil, pg.Wrap("rules of retention", err)
	}
	for _, r := range rows {
		rule, err := r.rule()
		if err != nil {
			return nil, err
		}
		all = append(all, rule)
	}
	return all, nil
}

// overlapping is the condition that a pattern p and $1 select a common repository: of two such
// patterns, one begins with what the other has before its star.
const overlapping = `(CASE WHEN right(pattern, 1) = '*' THEN starts_with($1, left(pattern, -1)) ELSE pattern = $1 END
	OR CASE WHEN right($1, 1) = '*' THEN starts_with(pattern, left($1, -1)) ELSE pattern = $1 END)`

// RetentionRules returns the rules that select a repository of a pattern, in order of pattern
// and id.
func (s *Store) RetentionRules(ctx context.Context, of access.Pattern) ([]retention.Rule, error) {
	return rulesOfRetention(ctx, s.pool, of)
}

func rulesOfRetention(ctx context.Context, db pg.Querier, of access.Pattern) ([]retention.Rule, error) {
	const q = "SELECT " + ruleColumns + " FROM retention_rule WHERE " + overlapping + " ORDER BY pattern, id"
	return rulesIn(ctx, db, q, of.String())
}

// RetentionRule returns a rule, or ErrNotFound.
func (s *Store) RetentionRule(ctx context.Context, id int64) (retention.Rule, error) {
	all, err := rulesIn(ctx, s.pool, "SELECT "+ruleColumns+" FROM retention_rule WHERE id = $1", id)
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("rule %d: %w", id, indexer.ErrNotFound)
	}
	if err != nil {
		return retention.Rule{}, err
	}
	return all[0], nil
}

// ruleRecord returns the record of a change of a rule.
func ruleRecord(e access.Event, r retention.Rule) access.Record {
	return access.Record{Event: e, Target: r.Pattern.String(), Detail: fmt.Sprintf("rule %d: %s", r.ID, r)}
}

// AddRetentionRule stores a rule and returns it. It returns ErrConflict if there is one like
// it, or as many as there may be.
func (s *Store) AddRetentionRule(ctx context.Context, r retention.Rule) (retention.Rule, error) {
	if err := r.Check(); err != nil {
		return r, err
	}
	const q = `
		INSERT INTO retention_rule (pattern, action, conditions, note, created_by) VALUES ($1, $2, $3, $4, $5)
		RETURNING ` + ruleColumns
	err := s.inAccess(ctx, "a rule like that", func(tx pgx.Tx) error {
		conditions, err := json.Marshal(storedConditionsOf(r.Conditions))
		if err != nil {
			return err
		}
		all, err := rulesIn(ctx, tx, q, r.Pattern.String(), string(r.Action), conditions, r.Note, access.ActorOf(ctx).Name)
		if err != nil {
			return err
		}
		r = all[0]
		if err := limitRules(ctx, tx, r.Pattern); err != nil {
			return err
		}
		return record(ctx, tx, ruleRecord(access.RetentionAdd, r))
	})
	return r, err
}

// limitRules returns an ErrConflict if there are more rules than there may be.
func limitRules(ctx context.Context, tx pgx.Tx, of access.Pattern) error {
	err := atMost(ctx, tx, retention.MaxRulesEach, "there are %d rules for this pattern, the most: remove one",
		"SELECT count(*) FROM retention_rule WHERE pattern = $1", of.String())
	if err != nil {
		return err
	}
	err = atMost(ctx, tx, retention.MaxRulesBelow,
		"there are %d rules for repositories of this namespace, the most: remove one",
		"SELECT count(*) FROM retention_rule WHERE split_part(pattern, '/', 1) = split_part($1, '/', 1)", of.String())
	if err != nil {
		return err
	}
	return atMost(ctx, tx, retention.MaxRules, "there are %d rules, the most: remove one",
		"SELECT count(*) FROM retention_rule")
}

// ChangeRetentionRule replaces the action, the conditions and the note of a rule, and returns
// it. It returns ErrNotFound if there is none with its id and pattern.
func (s *Store) ChangeRetentionRule(ctx context.Context, r retention.Rule) (retention.Rule, error) {
	if err := r.Check(); err != nil {
		return r, err
	}
	const q = `
		UPDATE retention_rule SET action = $3, conditions = $4, note = $5, created_by = $6, created_at = now()
		WHERE id = $1 AND pattern = $2 RETURNING ` + ruleColumns
	err := s.inAccess(ctx, "a rule like that", func(tx pgx.Tx) error {
		conditions, err := json.Marshal(storedConditionsOf(r.Conditions))
		if err != nil {
			return err
		}
		all, err := rulesIn(ctx, tx, q, r.ID, r.Pattern.String(), string(r.Action), conditions, r.Note,
			access.ActorOf(ctx).Name)
		if err == nil && len(all) == 0 {
			err = indexer.ErrNotFound
		}
		if err != nil {
			return err
		}
		r = all[0]
		return record(ctx, tx, ruleRecord(access.RetentionChange, r))
	})
	return r, err
}

// RemoveRetentionRule removes a rule, or returns ErrNotFound.
func (s *Store) RemoveRetentionRule(ctx context.Context, r retention.Rule) error {
	return s.changeAccess(ctx, fmt.Sprintf("rule %d", r.ID), ruleRecord(access.RetentionRemove, r),
		change{"DELETE FROM retention_rule WHERE id = $1 AND pattern = $2", []any{r.ID, r.Pattern.String()}})
}
