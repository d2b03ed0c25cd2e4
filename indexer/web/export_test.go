package web

// Routes returns the patterns of all routes that New registers.
func Routes(c Config) []string {
	server := newServer(c)
	pages, api := server.routes()
	return append(append(pages.patterns, api.patterns...), server.managementRoutes().patterns...)
}
