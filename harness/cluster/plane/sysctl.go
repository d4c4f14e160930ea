package plane

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
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
		link := filepath.Base(conf)
		errs = append(errs,
			setConf(link, sendRedirects, 0),   // or nodes learn a way round the plane
			setConf(link, acceptRedirects, 0), // or one of them teaches the plane
			// A packet whose source is not the node it came from is no packet. This tells nodes apart where each has an
			// interface of its own; where all come in by one, a program must not be able to forge a source: on Docker it
			// has neither NET_RAW nor NET_ADMIN.
			setConf(link, rpFilter, 1))
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

// confKey is a setting that each interface has for itself.
type confKey struct {
	name   string // below net.ipv4.conf.INTERFACE
	devcon int    // IPV4_DEVCONF_ (linux/ip.h)
}

var (
	acceptRedirects = confKey{"accept_redirects", 4}
	sendRedirects   = confKey{"send_redirects", 6}
	rpFilter        = confKey{"rp_filter", 8}
)

// IgnoreRedirects has the interface learn no route from ICMP redirects. Where it forwards nothing, it does only when
// net.ipv4.conf.all.accept_redirects is 0 too, which whoever makes the namespace has to set.
func IgnoreRedirects(link string) error { return setConf(link, acceptRedirects, 0) }

// setConf sets a setting of an interface, or of "all" or "default".
//
// In a container /proc/sys is read-only, whatever its capabilities. One interface's settings can be set by netlink all
// the same, which asks for NET_ADMIN alone; those of "all" and "default" cannot: they are the engine's to set.
func setConf(link string, key confKey, value uint32) error {
	err := setSysctl("/proc/sys/net/ipv4/conf/"+link+"/"+key.name, fmt.Sprint(value))
	if !errors.Is(err, unix.EROFS) || link == "all" || link == "default" {
		return err
	}
	l, err := netlink.LinkByName(link)
	if err != nil {
		return fmt.Errorf("plane: setting %s of %s: %w", key.name, link, err)
	}
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(l.Attrs().Index)
	spec := nl.NewRtAttr(unix.IFLA_AF_SPEC, nil)
	spec.AddRtAttr(unix.AF_INET, nil).AddRtAttr(iflaInetConf, nil).AddRtAttr(key.devcon, nl.Uint32Attr(value))
	req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	req.AddData(msg)
	req.AddData(spec)
	if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil {
		return fmt.Errorf("plane: setting %s of %s by netlink (CAP_NET_ADMIN): %w", key.name, link, err)
	}
	return nil
}

// iflaInetConf is IFLA_INET_CONF of linux/if_link.h.
const iflaInetConf = 1

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
