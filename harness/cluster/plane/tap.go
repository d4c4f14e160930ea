package plane

// tap reads a connection through the core, and may write into it. It stands next to the server: what the client sends
// comes to it when the toxics upstream have let it pass, and what it lets pass to the client goes through the toxics
// downstream. So what it sees is what reached the server, and an answer of its own is as late, slow or cut as one of
// the server's.
//
// The core asks for a connection's tap once, when the server has accepted (core.setTaps). A connection without a tap is
// spliced by the kernel; with one its bytes pass through the process. up and down are called from two goroutines, each
// from one at a time: a tap that looks at both directions holds a lock of its own in them.
type tap interface {
	// up is given bytes on their way to the server, in order, and returns what goes there in their place: the same
	// slice to leave them as they are, nil to keep them back. It must not keep the slice. It is also called with nil,
	// for what it has to send of its own: soon after the tap's wake, and whenever.
	up(b []byte) []byte
	// down likewise for bytes on their way to the client.
	down(b []byte) []byte
	// ended says that a direction's stream has ended in good order: the server's, as soon as its end has come here,
	// whatever toxics downstream still hold; the client's, when its end has passed those upstream. What it returns goes
	// on before the end, and nothing goes in that direction any more.
	ended(upstream bool) []byte
	// closed says that nothing is carried any more, however the connection ended. It is the last call.
	closed()
}

// tapConn is the connection as its tap knows it.
type tapConn struct {
	connInfo
	// wakeUp and wakeDown have up(nil) and down(nil) called soon. They do not wait, and may be called with locks held.
	wakeUp, wakeDown func()
	// reset resets the connection at both ends.
	reset func()
	// endUp ends what the client sends, as if it had.
	endUp func()
}

// half is what a pipe knows of the tap of its connection.
type half interface {
	arrived(b []byte) []byte // read from the source
	allArrived() []byte      // the source's end was read
	leaving(b []byte) []byte // to be written to the destination
	allLeft() []byte         // the end is to be passed on
}

type upTap struct{ tap }

func (t upTap) arrived(b []byte) []byte { return b }
func (t upTap) allArrived() []byte      { return nil }
func (t upTap) leaving(b []byte) []byte { return t.up(b) }
func (t upTap) allLeft() []byte         { return t.ended(true) }

type downTap struct{ tap }

func (t downTap) arrived(b []byte) []byte { return t.down(b) }
func (t downTap) allArrived() []byte      { return t.ended(false) }
func (t downTap) leaving(b []byte) []byte { return b }
func (t downTap) allLeft() []byte         { return nil }
