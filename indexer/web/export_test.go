package web

// Routes returns the patterns of all routes that New registers.
func Routes(c Config) []string {
	pages, api := newServer(c).routes()
	return append(pages.patterns, api.patterns...)
}
