package localpg

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// FreePort returns a TCP port of 127.0.0.1 on which nothing listens. It never returns
// a port twice. Use the port soon: another program may take it.
//
// The port is below the range that Linux uses for outgoing connections
// (net.ipv4.ip_local_port_range begins at 32768), so that no client takes the port
// while a server restarts.
func FreePort() (int, error) {
	const lowest, highest, attempts = 20000, 32000, 100
	var err error
	for range attempts {
		port := lowest + rand.IntN(highest-lowest)
		if _, given := givenPorts.LoadOrStore(port, true); given {
			continue
		}
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("no free port between %d and %d: %w", lowest, highest, err)
}

// givenPorts has the ports that FreePort has returned.
var givenPorts sync.Map
