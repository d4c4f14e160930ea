package role

import (
	"errors"
	"io"
	"os"
	"time"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/defect"
)

// patience is how long a client may take nothing of its answer before it is given up, for it holds a goroutine, and a call to each
// service behind, for as long as it likes; 0: for ever. http.Server.WriteTimeout would not do: it bounds the whole of an answer, and
// a stream has no end.
func patience(cfg config.Config) time.Duration {
	if cfg.Defects.Has(defect.NoDeadline) {
		return 0
	}
	return cfg.Deadline
}

// Write implements net.Conn. Its error ends the context of the request: net/http sees to that.
func (c *conn) Write(p []byte) (int, error) {
	if c.of.patience == 0 {
		return c.TCPConn.Write(p)
	}
	for done := 0; ; {
		if err := c.SetWriteDeadline(time.Now().Add(c.of.patience)); err != nil {
			return done, err
		}
		n, err := c.TCPConn.Write(p[done:])
		done += n
		if n == 0 || !errors.Is(err, os.ErrDeadlineExceeded) { // one that took some of it is slow, and no more
			return done, err
		}
	}
}

// ReadFrom implements io.ReaderFrom, which net/http would use of the connection within, past Write.
func (c *conn) ReadFrom(r io.Reader) (int64, error) { return io.Copy(struct{ io.Writer }{c}, r) }
