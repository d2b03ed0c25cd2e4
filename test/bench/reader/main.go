// Reader serves a book to an asker who sees a part of it. bench-search measures it
// beside the program, which cannot restrict access: the asker and what it sees are
// arguments here, and everything else is the program's own code.
package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/web"
	"github.com/portbook/portbook/indexer/web/answer"
)

// connections is the number of connections of a reader of the program.
const connections = 25

func main() {
	address := flag.String("address", "", "`address` to serve at")
	database := flag.String("database", "", "`URL` of the database")
	memory := flag.Int("memory", 1<<30, "most `bytes` of a copy for searches, as by default in the program; 0: none")
	names := flag.String("names", "", "`patterns` of the names that the asker sees, separated by commas")
	flag.Parse()
	asker := indexer.AskerOf(indexer.VisibleNames(strings.Split(*names, ",")...))
	if err := serve(context.Background(), *address, *database, asker, postgres.Config{Memory: *memory}); err != nil {
		fmt.Fprintln(os.Stderr, "reader:", err)
		os.Exit(1)
	}
}

// serve serves the book to one asker.
func serve(ctx context.Context, address, database string, asker indexer.Asker, config postgres.Config) error {
	pools, err := pgxpool.ParseConfig(database)
	if err != nil {
		return err
	}
	pools.MaxConns = connections
	pool, err := pgxpool.NewWithConfig(ctx, pools)
	if err != nil {
		return err
	}
	defer pool.Close()
	store := postgres.New(pool, config)
	handler := web.New(web.Config{
		Connections: connections, WebUI: true,
		Asker: func(*http.Request) (indexer.Asker, error) { return asker, nil },
		Read: func(ctx context.Context, asker indexer.Asker, f func(answer.Book) error) error {
			return store.View(ctx, asker, func(v *postgres.View) error { return f(v) })
		},
	})
	server := http.Server{Addr: address, Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return store.KeepCopy(ctx) })
	group.Go(server.ListenAndServe)
	return group.Wait()
}
