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
	names := flag.String("names", "", "`patterns` of the names that the asker sees, separated by commas")
	flag.Parse()
	if err := serve(context.Background(), *address, *database, strings.Split(*names, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "reader:", err)
		os.Exit(1)
	}
}

func serve(ctx context.Context, address, database string, names []string) error {
	config, err := pgxpool.ParseConfig(database)
	if err != nil {
		return err
	}
	config.MaxConns = connections
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()
	visible := indexer.VisibleNames(names...)
	store := postgres.New(pool, postgres.Config{
		Visible: func(context.Context, indexer.Asker) (indexer.Visibility, error) { return visible, nil },
	})
	handler := web.New(web.Config{
		Connections: connections, WebUI: true,
		Asker: func(*http.Request) (indexer.Asker, error) { return indexer.NewAsker("bench"), nil },
		Read: func(ctx context.Context, asker indexer.Asker, f func(answer.Book) error) error {
			return store.View(ctx, asker, func(v *postgres.View) error { return f(v) })
		},
	})
	server := http.Server{Addr: address, Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	return server.ListenAndServe()
}
