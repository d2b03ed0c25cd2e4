package api

import (
	"net/http"

	"github.com/portbook/portbook/indexer/web/answer"
)

type configAnswer struct {
	Version string     `json:"version" doc:"version of the program"`
	Log     configLog  `json:"log"`
	HTTP    configHTTP `json:"http"`
}

type configLog struct {
	Level string `json:"level"`
}

type configHTTP struct {
	Addr string `json:"addr" doc:"address on which it listens"`
}

// configuration shows the settings that are not secret. Each is listed here, so a
// new setting is not shown by accident.
func (s *API) configuration(w http.ResponseWriter, _ asked) error {
	a := configAnswer{s.config.Version, configLog{s.config.LogLevel}, configHTTP{s.config.Address}}
	return answer.WriteJSON(w, http.StatusOK, a)
}
