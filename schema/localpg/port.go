package localpg

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// FreePort finds a TCP port of 127.0.0.1 on which nothing listens, and which it
// has not given before. Nothing keeps it free: use it soon.
//
// The port is below the range from which Linux takes the ports of outgoing
// connections (net.ipv4.ip_local_port_range begins at 32768), so that a server
// that is restarted on the same port does not find it taken by a client.
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

// givenPorts are the ports that FreePort gave.
var givenPorts sync.Map
