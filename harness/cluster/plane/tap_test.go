package plane

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// lines is a tap for a protocol of lines: it answers those that begin with "!" itself, and notes all that pass.
type lines struct {
	conn tapConn

	mu       sync.Mutex
	rest     []byte // upstream, not yet a line
	answers  []byte
	toServer []byte
	toClient []byte
	ends     map[bool]int
	over     int
}

func (l *lines) up(b []byte) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, b...)
	var pass []byte
	for {
		i := bytes.IndexByte(l.rest, '\n')
		if i < 0 {
			break
		}
		line := l.rest[:i+1]
		if l.rest = l.rest[i+1:]; line[0] == '!' {
			l.answers = append(l.answers, "no"...)
			l.answers = append(l.answers, line...)
			l.conn.wakeDown()
		} else {
			pass = append(pass, line...)
		}
	}
	l.toServer = append(l.toServer, pass...)
	return pass
}

func (l *lines) down(b []byte) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.toClient = append(l.toClient, b...)
	out := append(l.answers, b...)
	l.answers = nil
	return out
}

func (l *lines) ended(up bool) []byte { l.mu.Lock(); defer l.mu.Unlock(); l.ends[up]++; return nil }
func (l *lines) closed()              { l.mu.Lock(); defer l.mu.Unlock(); l.over++ }

func TestATapSeesAndAnswers(t *testing.T) {
	inPlane(t, func() {
		s := coredStar(t, 2)
		a, b := s.nodes[0], s.nodes[1]
		taps := make(chan *lines, 10)
		s.r.core.setTaps(func(c tapConn) tap {
			l := &lines{conn: c, ends: map[bool]int{}}
			taps <- l
			return l
		})
		serve(t, b.listen(9000), echo)
		for i, slow := range []bool{false, true} {
			if slow {
				s.apply(ruleLatency("downstream", 20, 0, 1), s.link(1, 2))
			}
			c := a.mustDial(b, 9000)
			l := <-taps
			require.Equal(t, "node-1 node-2 9000", fmt.Sprint(l.conn.from, " ", l.conn.to, " ", l.conn.port))
			require.Equal(t, uint64(i), l.conn.n)
			require.Equal(t, c.LocalAddr().String(), l.conn.client.String())
			r := bufio.NewReader(c)
			for n := range 200 {
				require.NoError(t, c.SetDeadline(time.Now().Add(patient)))
				mark := []string{"", "!"}[n%2]
				start := time.Now()
				_, err := fmt.Fprintf(c, "%s%d\n", mark, n)
				require.NoError(t, err)
				got, err := r.ReadString('\n')
				require.NoError(t, err)
				want := fmt.Sprintf("%d\n", n)
				if mark == "!" {
					want = "no!" + want
				}
				require.Equal(t, want, got)
				if slow {
					require.GreaterOrEqual(t, time.Since(start), 20*time.Millisecond, "an answer of the tap passes the toxics")
				}
				if slow && n == 20 {
					break
				}
			}
			require.NoError(t, c.CloseWrite())
			rest, err := io.ReadAll(r)
			require.NoError(t, err)
			require.Empty(t, rest)
			until(t, "the tap knows that it is over", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.over == 1 })
			require.Equal(t, map[bool]int{true: 1, false: 1}, l.ends)
			require.Equal(t, l.toServer, l.toClient, "the server echoes what reached it")
			require.NotContains(t, string(l.toServer), "!")
		}
		// One that changes nothing carries everything.
		c := a.mustDial(b, 9000)
		<-taps
		data := bytes.Repeat([]byte("0123456789abcde\n"), 1<<16)
		go func() { _, _ = c.Write(data); _ = c.CloseWrite() }()
		got, err := io.ReadAll(c)
		require.NoError(t, err)
		require.True(t, bytes.Equal(data, got))
	})
}
