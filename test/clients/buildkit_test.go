package clients

import (
	"context"
	"net/http"
	"testing"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/docker/cli/cli/config/types"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth/authprovider"
	"github.com/moby/buildkit/session/testutil"
	"github.com/moby/buildkit/util/resolver"
)

// buildkitLogsIn pulls and pushes with the resolver of buildkit. There the builder does not
// know the password: it asks the client for a token, by a session.
func buildkitLogsIn(t *testing.T, addr string, alice account) {
	t.Helper()
	for _, c := range []struct {
		what          string
		who           account
		repository    string
		pushes, works bool
	}{
		{"push", alice, "/team/buildkit", true, true},
		{"pull", alice, "/team/buildkit", false, true},
		{"push elsewhere", alice, "/other/buildkit", true, false},
		{"pull without a login", account{}, "/team/buildkit", false, false},
		{"pull with a wrong password", account{alice.name, "wrong"}, "/team/buildkit", false, false},
		{"pull of what is public", account{}, "/samples/harbour", false, true},
	} {
		reference := addr + c.repository + ":1.1"
		r := buildkitResolver(t, c.who, reference, c.pushes)
		var err error
		if c.pushes {
			err = pushIndex(t, r, reference, "buildkit")
		} else {
			err = pullIndex(t, r, reference)
		}
		if (err == nil) != c.works {
			t.Errorf("buildkit: %s: got %v, want it to work: %v", c.what, err, c.works)
		}
	}
}

// buildkitResolver returns the resolver that a builder uses for a client with an account.
func buildkitResolver(t *testing.T, a account, reference string, pushes bool) *resolver.Resolver {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	client, err := session.NewSession(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	client.Allow(authprovider.NewDockerAuthProvider(authprovider.DockerAuthProviderConfig{
		AuthConfigProvider: func(
			context.Context, string, []string, authprovider.ExpireCachedAuthCheck,
		) (types.AuthConfig, error) {
			return types.AuthConfig{Username: a.name, Password: a.secret}, nil
		},
	}))
	builder, err := session.NewManager()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- client.Run(ctx, session.Dialer(testutil.TestStream(builder.HandleConn))) }()
	t.Cleanup(func() { cancel(); client.Close(); <-ended })
	plain := docker.WithPlainHTTP(docker.MatchAllHosts)
	hosts := docker.ConfigureDefaultRegistries(plain, docker.WithClient(&http.Client{}))
	scope := resolver.ScopeType{Push: pushes}
	return resolver.NewPool().GetResolver(hosts, reference, scope, builder, session.NewGroup(client.ID()))
}
