package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/portbook/portbook/indexer/access"
)

func workloadCommand() *cobra.Command {
	return group(&cobra.Command{
		Use: "workload", Short: "Say which jobs and pods log in as a robot, without a secret",
		Long: `Changes workloads: programs elsewhere, such as jobs of GitHub Actions or pods of
Kubernetes, that log in as a robot. They send a token of their own issuer (OpenID
Connect) as the password, so there is no secret to keep. A token must have the issuer,
the audience and all claims of a workload.`,
		Example: `  portbook workload add ci --issuer https://token.actions.githubusercontent.com --audience registry.example.org --claim repository_id=123456
  portbook workload list`,
	}, workloadAddCommand(), workloadCheckCommand(), workloadRemoveCommand(), workloadListCommand())
}

func workloadAddCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "add ROBOT", Short: "Let those with certain tokens log in as a robot",
		Long: `Lets in whoever has a token of an issuer for an audience with all of the claims, as a
robot, and prints the id of this workload. The issuer gives tokens to others too, so the
claims must say whose token it is. A value that ends with * is the beginning of that of
the token: end it with the character that ends a name there, as in repository=acme/*,
because acme* is also the beginning of acme-evil/app.

The indexers ask the issuer for its keys, and must reach it by https.`,
		Example: `  portbook workload add ci --issuer https://token.actions.githubusercontent.com --audience registry.example.org --claim repository_id=123456 --claim ref=refs/heads/main
  portbook workload add deploy --issuer https://oidc.example.org/cluster-1 --audience registry.example.org --claim sub=system:serviceaccount:prod:deploy`,
		Args: oneName,
	}
	flags := command.Flags()
	issuer := flags.String("issuer", "", "`URL` of the issuer, as in the claim iss")
	audience := flags.String("audience", "", "`text` that the claim aud has to have: choose the name of this registry")
	texts := flags.StringArray("claim", nil, "a claim that the token must have, as `NAME=VALUE`; may be repeated")
	for _, name := range []string{"issuer", "audience", "claim"} {
		_ = command.MarkFlagRequired(name) // returns an error only if the flag does not exist
	}
	command.RunE = withDatabase(func(command *cobra.Command, p *parts) error {
		claims, err := parseClaims(*texts)
		if err != nil {
			return err
		}
		w, err := access.NewWorkload(command.Flags().Arg(0), *issuer, *audience, claims)
		if err != nil {
			return err
		}
		if err := p.store.AddWorkload(command.Context(), w); err != nil {
			return err
		}
		fmt.Fprintln(command.OutOrStdout(), w.ID)
		return nil
	})
	return command
}

func parseClaims(texts []string) (claims []access.Claim, err error) {
	for _, text := range texts {
		c, err := access.ParseClaim(text)
		if err != nil {
			return nil, err
		}
		claims = append(claims, c)
	}
	return claims, nil
}

func workloadCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use: "check ROBOT", Short: "Say by which workload a token is let in, and why not by others",
		Long: `Reads a token from standard input, and says for each workload of a robot whether it lets
the token in, and if not, why. It asks the issuer for its keys. If none lets it in, the
exit status is 1.`,
		Example: "  portbook workload check ci <token",
		Args:    oneName,
		RunE: withDatabase(func(command *cobra.Command, p *parts) error {
			robot := command.Flags().Arg(0)
			all, err := p.store.Workloads(command.Context(), robot)
			if err != nil {
				return err
			}
			token, err := io.ReadAll(io.LimitReader(command.InOrStdin(), maxToken))
			if err != nil {
				return fmt.Errorf("standard input: %w", err)
			}
			return explain(command, robot, all, string(token))
		}),
	}
}

// maxToken is how much of a token is read: 64 KiB, more than any that is let in.
const maxToken = 64 << 10

// explain writes what becomes of a token by each of a robot's workloads.
func explain(command *cobra.Command, robot string, all []access.Workload, token string) error {
	reasons, err := access.Explain(command.Context(), all, token)
	if err != nil {
		return err
	}
	var rows [][]string
	for i, w := range all {
		rows = append(rows, []string{w.ID, cmp.Or(reasons[i], "it is let in")})
	}
	if err := table(command.OutOrStdout(), []string{"ID", "THE TOKEN"}, rows); err != nil {
		return err
	}
	if !slices.Contains(reasons, "") {
		return fmt.Errorf("no workload of %q lets the token in", robot)
	}
	return nil
}

func workloadRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "remove ID", Short: "Do not let a workload in any more",
		Long: `Removes a workload. Who has logged in by it is logged out within a few seconds, except
that a token which the registry has been shown already is valid for up to five minutes.`,
		Example: "  portbook workload remove w7f3a12bc",
		Args: func(command *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("workload remove takes the id of one workload: `portbook workload list` shows the ids")
			}
			return nil
		},
		RunE: withDatabase(func(command *cobra.Command, p *parts) error {
			return p.store.DeleteWorkload(command.Context(), command.Flags().Arg(0))
		}),
	}
}

func workloadListCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "list", Short: "List workloads",
		Long: `Lists the workloads of all robots. With --json each is one line.`,
		Example: `  portbook workload list
  portbook workload list --json`,
		Args: noArguments,
	}
	asJSON := command.Flags().Bool("json", false, "write JSON, one workload to a line")
	command.RunE = withDatabase(func(command *cobra.Command, p *parts) error {
		all, err := p.store.AllWorkloads(command.Context())
		if err != nil {
			return err
		}
		if *asJSON {
			return writeWorkloads(command, all)
		}
		var rows [][]string
		for _, w := range all {
			rows = append(rows, []string{
				w.ID, w.Account, w.Issuer, w.Audience, strings.Join(w.Texts(), " "), day(w.CreatedAt),
			})
		}
		return table(command.OutOrStdout(), []string{"ID", "ROBOT", "ISSUER", "AUDIENCE", "CLAIMS", "CREATED"}, rows)
	})
	return command
}

// writeWorkloads writes each workload as a line of JSON.
func writeWorkloads(command *cobra.Command, all []access.Workload) error {
	e := json.NewEncoder(command.OutOrStdout())
	for _, w := range all {
		line := map[string]any{
			"id": w.ID, "robot": w.Account, "issuer": w.Issuer, "audience": w.Audience, "claims": w.Texts(),
			"created": w.CreatedAt.UTC(),
		}
		if err := e.Encode(line); err != nil {
			return err
		}
	}
	return nil
}
