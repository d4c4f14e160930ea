package plane

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// setSysctls makes the network namespace a router that nothing goes round.
func setSysctls() error {
	const v4 = "/proc/sys/net/ipv4/"
	var errs []error
	must := func(path, value string) { errs = append(errs, setSysctl(path, value)) }
	// Not on every kernel, or not per namespace: the plane works without.
	may := func(path, value string) { _ = setSysctl(path, value) }

	// Each interface has its own; those to come take the default.
	for _, conf := range interfaces(v4 + "conf") {
		must(conf+"/send_redirects", "0")   // or nodes learn a way round the plane
		must(conf+"/accept_redirects", "0") // or one of them teaches the plane
		must(conf+"/rp_filter", "1")        // a packet whose source is not the node it came from is no packet
	}
	must(v4+"ip_forward", "1")
	// An ACK that ends a handshake by cookie finds no socket of the link core, whose listener has another address.
	may(v4+"tcp_syncookies", "0")
	may("/proc/sys/net/core/somaxconn", "4096")
	// The core binds the clients' own ports; one that lingers in TIME_WAIT here must not forbid the next use.
	may(v4+"tcp_tw_reuse", "1")
	// Refusals of datagrams are limited to one a second otherwise, and a second probe would see silence.
	may(v4+"icmp_ratelimit", "0")
	for _, conf := range interfaces("/proc/sys/net/ipv6/conf") {
		may(conf+"/disable_ipv6", "1") // its link-local addresses would reach the plane's listeners past the rules
	}
	return errors.Join(errs...)
}

func interfaces(dir string) []string {
	es, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var paths []string
	for _, e := range es {
		paths = append(paths, filepath.Join(dir, e.Name()))
	}
	return paths
}

// setSysctl writes a setting unless it has the value: where /proc/sys is read-only, as in containers, whoever made
// the namespace has set it.
func setSysctl(path, value string) error {
	b, err := os.ReadFile(path)
	if err == nil && strings.TrimSpace(string(b)) == value {
		return nil
	}
	if err == nil {
		err = os.WriteFile(path, []byte(value), 0)
	}
	if err != nil {
		return fmt.Errorf("plane: setting %s to %s: %w", path, value, err)
	}
	return nil
}
