package launch

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/portbook/portbook/schema/localpg/process"
)

// programs are built from the packages pkg of our modules, as the files binary.
var programs = []struct{ name, binary, module, pkg, hint string }{
	// 197 s of CPU with all of its storage drivers, measured; about 2 minutes on
	// two idle cores. Go keeps what it compiled, so the second time is seconds.
	{"registry", "registry", "registry", ".", "the first build takes some minutes"},
	{"indexer", "portbook", "indexer", "./cmd/portbook", "the first build takes about a minute"},
}

// build compiles the programs into the data folder, since the servers' account cannot
// execute files of a clone in /root.
func (s *system) build(ctx context.Context) error {
	for _, p := range programs {
		s.out.print("Building the %s (%s)", p.name, p.hint)
		begin := time.Now()
		target := filepath.Join(s.data.path(binName), p.binary)
		cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs="+stamp(ctx, s.cfg.Source), "-o", target, p.pkg)
		cmd.Dir = filepath.Join(s.cfg.Source, p.module)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go build %s in %s: %w: %s", p.pkg, cmd.Dir, err, process.LastLines(out))
		}
		s.out.print("Built the %s in %v", p.name, time.Since(begin).Round(time.Second))
	}
	return nil
}

// stamp returns the value of -buildvcs: auto records the commit, but fails if git
// refuses to read the clone, because it belongs to another user (sudo make up) or is a
// copy without history.
func stamp(ctx context.Context, source string) string {
	if err := exec.CommandContext(ctx, "git", "-C", source, "rev-parse", "HEAD").Run(); err != nil {
		return "false"
	}
	return "auto"
}
