package indexer

import "context"

// requestKey is the key of a request's id in a context.
type requestKey struct{}

// WithRequest returns a copy of ctx that carries the id of the request being handled.
func WithRequest(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestKey{}, id)
}

// RequestOf returns the id of the request that ctx belongs to. It returns "" for work
// that no request caused.
func RequestOf(ctx context.Context) string {
	id, _ := ctx.Value(requestKey{}).(string)
	return id
}
