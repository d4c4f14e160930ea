package plane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// ErrGone is the error of every call once the plane, or the connection to it, has ended.
var ErrGone = errors.New("the plane is gone")

// cancelGrace is how long a cancelled call waits for the plane's answer. A handler that hears of it answers within a
// millisecond, and then the caller knows whether the work was done.
const cancelGrace = time.Second

// Client is the harness's end of the connection. Its methods may be called from several goroutines.
type Client struct {
	conn   Conn
	notify func(topic string, body json.RawMessage)
	done   chan struct{}
	ended  sync.WaitGroup

	mu      sync.Mutex
	next    uint64
	waiting map[uint64]chan answer
	err     error // why it ended

	news     sync.Cond // notifications wait in queue, so that a slow observer holds up no reply
	newsMu   sync.Mutex
	queue    []envelope
	newsOver bool
}

type answer struct {
	e     envelope
	files []*os.File
}

// NewClient starts reading from conn. notify, when not nil, gets the plane's notifications in order, one at a time;
// it may call the client.
func NewClient(conn Conn, notify func(topic string, body json.RawMessage)) *Client {
	c := &Client{conn: conn, notify: notify, done: make(chan struct{}), waiting: map[uint64]chan answer{}}
	c.news.L = &c.newsMu
	c.ended.Go(c.read)
	c.ended.Go(c.deliver)
	return c
}

// Call sends in as the body of a call, with files, and decodes the reply into out; both may be nil. The files it
// returns belong to the caller. An error of the plane's handler is a *RemoteError, the end of the plane is ErrGone.
// When ctx ends the plane is told; work that was done in spite of that is no error.
func (c *Client) Call(ctx context.Context, method string, in, out any, files ...*os.File) ([]*os.File, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	body, err := json.Marshal(in)
	if err != nil {
		return nil, fmt.Errorf("plane: encoding a call of %s: %w", method, err)
	}
	id, reply, err := c.begin()
	if err != nil {
		return nil, err
	}
	defer c.forget(id)
	if err := c.send(envelope{Kind: kindCall, ID: id, Name: method, Body: body}, files); err != nil {
		if peerEnded(err) {
			<-c.done // read is about to see the same, and knows why
		}
		select {
		case <-c.done:
			return nil, c.Err()
		default:
			return nil, fmt.Errorf("plane: calling %s: %w", method, err)
		}
	}
	a, err := c.await(ctx, id, reply)
	if err != nil {
		return nil, err
	}
	if a.e.Err != nil {
		closeFiles(a.files)
		if ctx.Err() != nil && (a.e.Err.Canceled || a.e.Err.Deadline) {
			return nil, ctx.Err() // the plane only knows that it was cancelled, not why
		}
		return nil, &RemoteError{Method: method, wire: *a.e.Err}
	}
	if out != nil {
		if err := json.Unmarshal(a.e.Body, out); err != nil {
			closeFiles(a.files)
			return nil, fmt.Errorf("plane: decoding the reply of %s: %w", method, err)
		}
	}
	return a.files, nil
}

func (c *Client) await(ctx context.Context, id uint64, reply chan answer) (answer, error) {
	select {
	case a := <-reply:
		return a, nil
	case <-c.done:
	case <-ctx.Done():
		_ = c.send(envelope{Kind: kindCancel, ID: id}, nil) // a connection that is gone closes done
		grace := time.NewTimer(cancelGrace)
		defer grace.Stop()
		select {
		case a := <-reply:
			return a, nil
		case <-grace.C:
			return answer{}, ctx.Err()
		case <-c.done:
		}
	}
	select { // a reply that came before the end counts
	case a := <-reply:
		return a, nil
	default:
		return answer{}, c.Err()
	}
}

// Done is closed when the plane is gone.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err says why, and is nil before. errors.Is(Err, ErrGone) holds.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the connection, and with it the plane. It returns when every notification that came was delivered.
func (c *Client) Close() error {
	err := c.conn.Close()
	c.ended.Wait()
	return err
}

func (c *Client) begin() (uint64, chan answer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, nil, c.err
	}
	c.next++
	ch := make(chan answer, 1)
	c.waiting[c.next] = ch
	return c.next, ch, nil
}

// forget ends a call. A reply that comes later, or came unseen, has its files closed.
func (c *Client) forget(id uint64) {
	c.mu.Lock()
	ch := c.waiting[id]
	delete(c.waiting, id)
	c.mu.Unlock()
	select {
	case a := <-ch: // nobody waited for it any more
		closeFiles(a.files)
	default:
	}
}

func (c *Client) send(e envelope, files []*os.File) error {
	b, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("plane: encoding a message: %w", err)
	}
	return c.conn.Send(b, files)
}

func (c *Client) read() {
	for {
		msg, files, err := c.conn.Recv()
		if err != nil {
			c.end(err)
			return
		}
		var e envelope
		if err := json.Unmarshal(msg, &e); err != nil {
			closeFiles(files)
			c.end(fmt.Errorf("it sent no message of the protocol: %w", err))
			return
		}
		switch e.Kind {
		case kindReply:
			c.resolve(e, files)
		case kindNotify:
			closeFiles(files)
			c.newsMu.Lock()
			c.queue = append(c.queue, e)
			c.newsMu.Unlock()
			c.news.Signal()
		default:
			closeFiles(files)
		}
	}
}

func (c *Client) resolve(e envelope, files []*os.File) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ch := c.waiting[e.ID]
	if ch == nil {
		closeFiles(files)
		return
	}
	select {
	case ch <- answer{e, files}: // the channel has room for one
	default:
		closeFiles(files)
	}
}

func (c *Client) end(err error) {
	c.conn.Close()
	c.mu.Lock()
	c.err = ErrGone
	if !peerEnded(err) {
		c.err = fmt.Errorf("%w: %w", ErrGone, err)
	}
	c.mu.Unlock()
	close(c.done)
	c.newsMu.Lock()
	c.newsOver = true
	c.newsMu.Unlock()
	c.news.Signal()
}

func (c *Client) deliver() {
	for {
		c.newsMu.Lock()
		for len(c.queue) == 0 && !c.newsOver {
			c.news.Wait()
		}
		if len(c.queue) == 0 {
			c.newsMu.Unlock()
			return
		}
		e := c.queue[0]
		c.queue = c.queue[1:]
		c.newsMu.Unlock()
		if c.notify != nil {
			c.notify(e.Name, e.Body)
		}
	}
}
