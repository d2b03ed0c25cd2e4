package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
)

// storageTime is how long the command looks up what else uses something: half a minute.
const storageTime = 30 * time.Second

func storageCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "storage [NAMESPACE/* | REPOSITORY[:TAG|@DIGEST]]",
		Short: "Show what a tag, manifest, repository or namespace takes, and what deleting it would free",
		Long: `Shows how many bytes are its own, which nothing else uses, how many it shares with
others, and how many deleting it frees. Without an argument it lists the largest
repositories, as last counted. Bytes are as manifests claim them.

To untag frees nothing, because the manifest stays. Deleting a manifest deletes all
tags that show it. Of an image index, what is freed includes the images that it lists
and that no tag and no other index needs.`,
		Example: `  portbook storage
  portbook storage 'team/*'
  portbook storage team/app:v1
  portbook storage team/app --json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return fmt.Errorf("it takes one argument, and got %d", len(args))
			}
			_, err := holdingOf(args)
			return err
		},
	}
	asJSON := command.Flags().Bool("json", false, "write JSON")
	command.RunE = withDatabase(func(command *cobra.Command, p *parts) error {
		args := command.Flags().Args()
		of, err := holdingOf(args)
		if err != nil {
			return err
		}
		return p.store.View(command.Context(), indexer.Everyone, func(v *postgres.View) error {
			switch {
			case len(args) == 0:
				return listStorage(command, v, *asJSON)
			case *asJSON:
				return writeHolding(command, v, of)
			}
			return showHolding(command, v, args[0], of)
		})
	})
	return command
}

// holdingOf reads the argument: NAMESPACE/* or a reference.
func holdingOf(args []string) (of indexer.HoldingOf, err error) {
	of.Within = storageTime
	if len(args) == 0 {
		return of, nil
	}
	if namespace, found := strings.CutSuffix(args[0], "/*"); found {
		if !indexer.IsRepository(namespace) || strings.Contains(namespace, "/") {
			return of, indexer.Invalid("%.64q is not a namespace: write the part of a name before its first slash, then /*",
				namespace)
		}
		of.Namespace = &namespace
		return of, nil
	}
	of.Reference, err = indexer.ParseReference(args[0])
	return of, err
}

// largestListed is how many repositories the command lists: 20.
const largestListed = 20

func listStorage(command *cobra.Command, v *postgres.View, asJSON bool) error {
	q := indexer.StorageQuery{Order: indexer.ByStorage, Limit: largestListed}
	list, err := v.RepositoryStorage(command.Context(), q)
	if err != nil {
		return err
	}
	if asJSON {
		e := json.NewEncoder(command.OutOrStdout())
		for _, r := range list {
			line := map[string]any{"repository": r.Name, "own": r.Own, "shared": r.Shared, "manifests": r.Manifests,
				"untagged": r.Untagged, "untagged_size": r.UntaggedSize}
			if err := e.Encode(line); err != nil {
				return err
			}
		}
		return nil
	}
	var rows [][]string
	for _, r := range list {
		row := []string{r.Name}
		for _, n := range []int64{r.Own, r.Shared, int64(r.Manifests), r.UntaggedSize} {
			row = append(row, fmt.Sprint(n))
		}
		rows = append(rows, row)
	}
	return table(command.OutOrStdout(), []string{"REPOSITORY", "OWN", "SHARED", "MANIFESTS", "UNTAGGED"}, rows)
}

// writeHolding writes a holding as JSON, with the fields of the API.
func writeHolding(command *cobra.Command, v *postgres.View, of indexer.HoldingOf) error {
	h, err := v.Holding(command.Context(), of)
	if err != nil {
		return err
	}
	line := map[string]any{"own": h.Own, "shared": h.Shared, "frees": freedFields(h.Frees)}
	if of.Namespace != nil {
		line["namespace"] = *of.Namespace
	} else {
		line["repository"] = of.Reference.Repository
	}
	if of.Reference.Tag != "" {
		line["tag"] = of.Reference.Tag
	}
	if m := h.Manifest; m != nil {
		about := map[string]any{"digest": m.Digest, "tags": append([]string{}, m.Tags...), "untag_frees": 0,
			"listed_by":   m.ListedBy,
			"frees_alone": freedFields(m.Alone), "attached": m.Attached}
		if m.Attached > 0 {
			about["frees_with_attached"] = freedFields(m.All)
		}
		line["manifest"] = about
	}
	return json.NewEncoder(command.OutOrStdout()).Encode(line)
}

func freedFields(f indexer.Freed) map[string]any {
	return map[string]any{"bytes": f.Frees, "blobs": f.FreesBlobs, "manifests": f.Manifests, "shared": f.Shared,
		"shared_blobs": f.SharedBlobs, "at_most": f.Part, "unknown": f.Unknown, "unknown_blobs": f.UnknownBlobs}
}

// freedText returns what deleting would free, in words.
func freedText(f indexer.Freed) string {
	text := fmt.Sprintf("%d bytes", f.Frees)
	if f.UnknownBlobs > 0 {
		text += fmt.Sprintf(", and perhaps %d more, which took too long to find out", f.Unknown)
	}
	return text
}

func showHolding(command *cobra.Command, v *postgres.View, name string, of indexer.HoldingOf) error {
	h, err := v.Holding(command.Context(), of)
	if err != nil {
		return err
	}
	rows := [][]string{
		{"own", fmt.Sprintf("%d bytes that nothing else uses", h.Own)},
		{"shared", fmt.Sprintf("%d bytes that others use too", h.Shared)},
		{"frees", freedText(h.Frees) + " if it is deleted"},
	}
	if m := h.Manifest; m != nil {
		rows = append(rows, manifestRows(of.Reference, h.Frees, *m)...)
	}
	return table(command.OutOrStdout(), []string{"STORAGE OF", name}, rows)
}

// manifestRows says what else happens if a manifest is deleted.
func manifestRows(ref indexer.Reference, frees indexer.Freed, m indexer.ManifestHolding) (rows [][]string) {
	if more := frees.Manifests - m.Alone.Manifests; more > 0 {
		rows = append(rows, []string{"frees alone",
			fmt.Sprintf("%s, without the %d manifests that only it needs", freedText(m.Alone), more)})
	}
	if m.Attached > 0 {
		rows = append(rows, []string{"frees with attached",
			fmt.Sprintf("%s, if the %d manifests attached to it are deleted too", freedText(m.All), m.Attached)})
	}
	if len(m.Tags) > 0 {
		rows = append(rows, []string{"tags", strings.Join(m.Tags, ", ") + " would be deleted with it"})
	}
	if m.ListedBy > 0 {
		rows = append(rows, []string{
			"listed by", fmt.Sprintf("%d image indexes, which cannot be pulled whole without it", m.ListedBy),
		})
	}
	if ref.Tag != "" {
		rows = append(rows, []string{"untag", "frees nothing: the manifest stays"})
	}
	return rows
}
