package load

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster/replicas"
	"github.com/hasvc/gauntlet/harness/record"
)

// swallowing is a connection that takes all that is sent.
type swallowing struct{ net.Conn }

func (swallowing) Write(b []byte) (int, error) { return len(b), nil }

func TestEnding(t *testing.T) {
	for name, c := range map[string]struct {
		noConn, shared, untaken, sent, late bool
		want                                record.Ending
	}{
		"no connection":         {noConn: true, want: record.Refused},
		"no connection in time": {noConn: true, late: true, want: record.Refused},
		"turned away":           {shared: true, sent: true, untaken: true, want: record.Refused},
		"broken before":         {want: record.Refused},
		"broken before, shared": {shared: true, want: record.Refused},
		"broken":                {sent: true, want: record.Reset},
		"broken, shared":        {shared: true, sent: true, want: record.Reset},
		"late before":           {late: true, want: record.Refused},
		"late before, shared":   {late: true, shared: true, want: record.Deadline}, // it may leave yet
		"late":                  {late: true, sent: true, want: record.Deadline},
		"late, shared":          {late: true, shared: true, sent: true, want: record.Deadline},
	} {
		t.Run(name, func(t *testing.T) {
			x := &call{shared: c.shared, untaken: c.untaken}
			conn := &replicas.Conn{Conn: swallowing{}}
			if !c.noConn {
				x.conn, x.mark = conn, conn.Sent()
			}
			if c.sent {
				_, err := conn.Write([]byte("HEADERS"))
				require.NoError(t, err)
			}
			require.Equal(t, c.want, x.ending(c.late))
			if !c.noConn {
				_, err := conn.Write([]byte("more"))
				require.Equal(t, !c.shared && !c.untaken, err != nil, "what is refused cannot leave later, and others go on: %v", err)
			}
		})
	}
}
