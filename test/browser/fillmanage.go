package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/schema/localpg/process"
)

// managed is a repository whose tags are moved, deleted, planned to be deleted and yanked, and
// finished is one of which a plan has deleted tags.
const managed, finished = "team/app", "team/old"

// manage fills what the pages about management show: operations, the trash, plans, protections,
// what is yanked, the storage as the sweep has seen it, and a run of a job.
func (s *site) manage(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		s.addProtections, s.addPlans, s.deleteSome, s.yankSome, s.lookAtStorage,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// pushManaged pushes releases and builds of pull requests, and moves a tag.
func (s *site) pushManaged(ctx context.Context) error {
	c := push.New(s.url)
	image := func(repository, tag, version string, created time.Time) error {
		about := words("App", "The app of the team, with a build for each pull request", version, created)
		spec := push.ImageSpec{
			Created: created, Labels: about,
			Files: map[string]string{"app": strings.Repeat(version, 3000)},
		}
		desc, err := c.Image(ctx, repository, tag, spec)
		if repository == managed {
			s.known[tag] = desc.Digest.String()
		}
		return err
	}
	for i := range 3 {
		for _, tag := range []string{fmt.Sprintf("v1.%d", i), "stable"} { // stable moves with each release
			if err := image(managed, tag, fmt.Sprintf("1.%d.0", i), epoch.AddDate(0, i, 0)); err != nil {
				return err
			}
		}
	}
	for i := range 16 {
		repository := managed
		if i >= 14 {
			repository = finished
		}
		err := image(repository, fmt.Sprintf("pr-%d", 101+i), fmt.Sprintf("0.0.%d", i), epoch.AddDate(1, 0, i))
		if err != nil {
			return err
		}
	}
	if err := image(finished, "v1.0", "1.0.0", epoch); err != nil { // so that something is left of it
		return err
	}
	return s.settled(ctx, managed)
}

// addProtections protects tags, freezes repositories and sets quotas, of which one is used up.
func (s *site) addProtections(ctx context.Context) error {
	for _, p := range []object{
		{"kind": "protect", "pattern": "team/*", "tags": "v*", "reason": "releases stay"},
		{"kind": "protect", "pattern": s.known["hostile"] + "/*", "tags": strings.Repeat("W", 127) + "*",
			"reason": hostileNote},
		{"kind": "freeze", "pattern": "archive/*", "reason": "kept as it is for the audit"},
		{"kind": "quota", "pattern": "*", "bytes": 500_000_000_000},
		{"kind": "quota", "pattern": "payments/*", "bytes": 5000, "reason": "ask the platform team for more"},
		{"kind": "quota", "pattern": managed, "bytes": 1 << 20},
	} {
		if _, err := s.ask(ctx, administrator, http.MethodPut, "/protections", p, http.StatusOK); err != nil {
			return err
		}
	}
	_, err := s.portbook(ctx, "", "job", "run", "storage")
	return err
}

// addPlans adds rules and makes two plans: one to be applied, which deletes more than the cap and
// keeps what runs in a cluster, and one of another repository, which is applied.
func (s *site) addPlans(ctx context.Context) error {
	use := object{"cluster": "production", "images": []string{managed + "@" + s.known["pr-114"]}}
	if _, err := s.ask(ctx, administrator, http.MethodPost, "/in-use", use, http.StatusNoContent); err != nil {
		return err
	}
	for _, rule := range []object{
		{"pattern": "team/*", "action": "keep", "semver": "minor", "note": "releases"},
		{"pattern": "team/*", "action": "delete", "tag": "pr-*", "note": hostileNote},
	} {
		if _, err := s.ask(ctx, administrator, http.MethodPost, "/retention", rule, http.StatusCreated); err != nil {
			return err
		}
	}
	var err error
	if s.known["plan"], err = s.plan(ctx, managed); err != nil {
		return err
	}
	if s.known["applied"], err = s.plan(ctx, finished); err != nil {
		return err
	}
	return s.operate(ctx, http.MethodPost, "/plans/"+s.known["applied"]+"/apply", object{"accept_percent": 100})
}

// plan makes a plan of a repository, and returns its number.
func (s *site) plan(ctx context.Context, scope string) (id string, err error) {
	err = eventually(ctx, func() error { // a repository of which something waits to be read is left out
		b, err := s.ask(ctx, administrator, http.MethodPost, "/plans", object{"scope": scope}, http.StatusCreated)
		if err != nil {
			return err
		}
		var made struct {
			ID      int64
			Deleted int `json:"tags_deleted"`
		}
		if err = json.Unmarshal(b, &made); err == nil && made.Deleted == 0 {
			err = fmt.Errorf("plan %d deletes nothing: %s", made.ID, b)
			select { // few plans
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
		id = fmt.Sprint(made.ID)
		return err
	})
	return id, err
}

// operate asks for an operation, and waits until all operations are over.
func (s *site) operate(ctx context.Context, method, path string, body any) error {
	b, err := s.ask(ctx, administrator, method, path, body, http.StatusOK, http.StatusAccepted)
	if err != nil {
		return err
	}
	var asked struct {
		Operation json.RawMessage // of a plan, a number
	}
	var o struct {
		ID   int64
		Kind string
	}
	if err := json.Unmarshal(b, &asked); err != nil {
		return err
	}
	if json.Unmarshal(asked.Operation, &o) == nil {
		s.known[o.Kind] = fmt.Sprint(o.ID)
	}
	return eventually(ctx, func() error {
		b, err := s.ask(ctx, administrator, http.MethodGet, "/operations", nil, http.StatusOK)
		text := string(b)
		if err == nil && (strings.Contains(text, `"state":"waiting"`) || strings.Contains(text, `"state":"running"`)) {
			err = fmt.Errorf("an operation is not over: %s", b)
		}
		return err
	})
}

// deleteSome deletes a tag and a manifest, and moves a tag back.
func (s *site) deleteSome(ctx context.Context) error {
	const repository = "/repositories/" + managed + "/-"
	return errors.Join(
		s.operate(ctx, http.MethodDelete, repository+"/tags/pr-112", nil),
		s.operate(ctx, http.MethodDelete, repository+"/manifests/"+s.known["pr-113"], nil),
		s.operate(ctx, http.MethodPut, repository+"/tags/stable", object{"digest": s.known["v1.1"]}),
	)
}

// yankSome yanks a tag and deprecates a repository.
func (s *site) yankSome(ctx context.Context) error {
	for _, path := range []string{
		"/repositories/" + managed + "/-/yank?tag=v1.0&reason=loses+data,+use+v1.1",
		"/repositories/payments/invoice-ui/-/deprecate?reason=use+shop/invoice-ui",
	} {
		if _, err := s.ask(ctx, administrator, http.MethodPut, path, nil, http.StatusOK); err != nil {
			return err
		}
	}
	return nil
}

// lookAtStorage starts the sweep of the registry, and has the leader run the garbage collection.
func (s *site) lookAtStorage(ctx context.Context) error {
	account, err := process.Unprivileged()
	if err != nil {
		return err
	}
	token := filepath.Join(s.data, "sweep-token")
	if err := errors.Join(os.WriteFile(token, []byte(sweepToken), 0o600), account.Own(token)); err != nil {
		return err
	}
	cmd := exec.Command(filepath.Join(s.data, "bin", "registry"), "sweep", "serve", filepath.Join(s.data, "registry.yml"),
		"--address", s.sweepAddress, "--token-file", token)
	cmd.Env = []string{"REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=" + filepath.Join(s.data, "registry")}
	if s.sweep, err = process.Start(cmd, account, s.log); err != nil {
		return err
	}
	return eventually(ctx, func() error {
		b, err := s.ask(ctx, administrator, http.MethodPost, "/jobs/collect", nil, http.StatusOK, http.StatusAccepted)
		if err != nil {
			return err
		}
		var run struct {
			ID    int64
			Ended string `json:"ended_at"`
			Error string
		}
		if err := json.Unmarshal(b, &run); err != nil {
			return err
		}
		s.known["run"] = fmt.Sprint(run.ID)
		if run.Ended == "" || run.Error != "" {
			return fmt.Errorf("the storage was not looked at: %s", b)
		}
		return nil
	})
}

// sweepToken is what the indexers must know to ask the sweep.
const sweepToken = "0123456789abcdef0123456789abcdef"

// stopSweep stops the sweep, if it was started.
func (s *site) stopSweep() {
	if s.sweep != nil {
		s.sweep.Stop(syscall.SIGTERM, stopTimeout/4)
	}
}
