package plane

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2/toxics"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// pipeEnds returns two ends of a pipe over loopback: what is written to in comes out of out.
func pipeEnds(t require.TestingT) (in, src, dst, out *net.TCPConn, closeAll func()) {
	pair := func() (*net.TCPConn, *net.TCPConn) {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		require.NoError(t, err)
		defer l.Close()
		a, err := net.Dial("tcp4", l.Addr().String())
		require.NoError(t, err)
		b, err := l.Accept()
		require.NoError(t, err)
		return a.(*net.TCPConn), b.(*net.TCPConn)
	}
	in, src = pair()
	dst, out = pair()
	return in, src, dst, out, func() {
		for _, c := range []*net.TCPConn{in, src, dst, out} {
			c.Close()
		}
	}
}

// testStage makes a stage of any toxic.
func testStage(p *pipe, kind string, mk func(*strike) toxics.Toxic) *stage {
	tl := &toxicLink{kind: kind, toxicity: 1, make: mk}
	return tl.stageFor(0, false, p)
}

// theirs makes toxiproxy's own toxic.
func theirs(tx toxics.Toxic) func(*strike) toxics.Toxic {
	return func(*strike) toxics.Toxic { return tx }
}

// ours makes a toxic of the table.
func ours(kind, attributes string) func(*strike) toxics.Toxic {
	mk, err := toxicKinds[kind].parse([]byte(attributes))
	if err != nil {
		panic(err)
	}
	return mk
}

// TestPipeLosesNothing sends bytes through a pipe whose stages change at random, toxiproxy's own toxics among them,
// and compares what comes out.
func TestPipeLosesNothing(t *testing.T) {
	zerolog.SetGlobalLevel(zerolog.Disabled) // toxiproxy's toxics tell of each interrupt
	rapid.Check(t, func(t *rapid.T) {
		in, src, dst, out, closeAll := pipeEnds(t)
		defer closeAll()
		data := make([]byte, rapid.IntRange(1, 2<<20).Draw(t, "size"))
		rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "data"), 0))
		for i := 0; i+8 <= len(data); i += 8 {
			binary.LittleEndian.PutUint64(data[i:], rnd.Uint64())
		}
		piece := rapid.IntRange(1<<9, 1<<17).Draw(t, "piece")
		p := newPipe(src, dst)
		p.ends.after = func(time.Duration, func()) {} // its time does not come
		var running sync.WaitGroup
		var runErr error
		running.Go(func() { runErr = p.run() })
		running.Go(func() {
			for part := range slices.Chunk(data, piece) {
				if _, err := in.Write(part); err != nil {
					return
				}
			}
			_ = in.CloseWrite()
		})
		got := make(chan []byte, 1)
		running.Go(func() {
			b, _ := io.ReadAll(out)
			got <- b
		})
		mk := map[string]func() *stage{
			"bandwidth": func() *stage { return testStage(p, "bandwidth", ours("bandwidth", `{"rate": 500000}`)) },
			"slicer": func() *stage {
				return testStage(p, "slicer", ours("slicer", `{"average_size": 5000, "size_variation": 4999, "delay": 1}`))
			},
			"slow_close": func() *stage { return testStage(p, "slow_close", ours("slow_close", `{"delay": 2}`)) },
			"limit_data": func() *stage { return testStage(p, "limit_data", ours("limit_data", `{"bytes": 1000000000}`)) },
			"reset_peer": func() *stage { return testStage(p, "reset_peer", ours("reset_peer", `{"timeout": 600000}`)) },
			"latency":    func() *stage { return testStage(p, "latency", ours("latency", `{"latency": 3, "jitter": 2}`)) },
			"theirs":     func() *stage { return testStage(p, "latency", theirs(&toxics.LatencyToxic{Latency: 2})) },
			"noop":       func() *stage { return testStage(p, "noop", theirs(&toxics.NoopToxic{})) },
			"their slicer": func() *stage {
				return testStage(p, "slicer", theirs(&toxics.SlicerToxic{AverageSize: 40000, SizeVariation: 10, Delay: 1}))
			},
			"their slow_close": func() *stage { return testStage(p, "slow_close", theirs(&toxics.SlowCloseToxic{Delay: 2})) },
			"their bandwidth":  func() *stage { return testStage(p, "bandwidth", theirs(&toxics.BandwidthToxic{Rate: 500000})) },
		}
		for range rapid.IntRange(0, 40).Draw(t, "changes") {
			kind := rapid.SampledFrom(append(slices.Sorted(maps.Keys(mk)), "remove", "remove")).Draw(t, "change")
			which := rapid.IntRange(0, 9).Draw(t, "which")
			var next *stage
			if kind != "remove" {
				next = mk[kind]()
			}
			p.set(func(ss []*stage) []*stage {
				if next != nil {
					return append(ss, next)
				}
				if len(ss) == 0 {
					return ss
				}
				i := which % len(ss)
				return slices.Delete(ss, i, i+1)
			})
			if rapid.Bool().Draw(t, "pause") {
				time.Sleep(time.Duration(which) * 100 * time.Microsecond) // let some bytes through between changes
			}
		}
		p.set(func([]*stage) []*stage { return nil })
		select {
		case b := <-got:
			require.True(t, bytes.Equal(data, b), "%d bytes went in, %d came out", len(data), len(b))
		case <-time.After(20 * time.Second):
			closeAll()
			require.Fail(t, "the pipe hangs")
		}
		running.Wait()
		require.NoError(t, runErr)
	})
}

// gate is a tap that holds up what goes to the destination until it is opened.
type gate chan struct{}

func (g gate) arrived(b []byte) []byte { return b }

func (g gate) leaving(b []byte) []byte {
	if len(b) > 0 {
		<-g
	}
	return b
}

func (g gate) allArrived() []byte { return nil }

func (g gate) allLeft() []byte { return nil }

// TestNothingComesFromBehindACut takes limit_data off when it has just cut the stream: what comes out is where the data begins.
func TestNothingComesFromBehindACut(t *testing.T) {
	data := make([]byte, 200_000)
	for i := range data {
		data[i] = byte(i >> 8)
	}
	for range 20 { // of two things that are ready one is drawn
		in, src, dst, out, closeAll := pipeEnds(t)
		go func() { _, _ = in.Write(data) }() // ends with the connection
		p := newPipe(src, dst)
		open := make(gate)
		p.tap = open
		s := testStage(p, "limit_data", ours("limit_data", `{"bytes": 1000}`))
		p.set(func([]*stage) []*stage { return []*stage{s} })
		ran := make(chan error, 1)
		go func() { ran <- p.run() }()
		until(t, "the toxic has cut the stream", func() bool { return s.of.chunks.Load() == 1 })
		time.Sleep(2 * time.Millisecond) // the next bytes are read, and wait to go in
		p.set(func([]*stage) []*stage { return nil })
		close(open)
		require.ErrorIs(t, <-ran, errCut)
		require.NoError(t, dst.Close())
		b, err := io.ReadAll(out)
		require.NoError(t, err)
		require.True(t, bytes.Equal(data[:1000], b), "%d bytes came out", len(b))
		closeAll()
	}
}

// TestPipeDoesNotWaitForAReader changes the stages of a pipe whose peer does not read.
func TestPipeDoesNotWaitForAReader(t *testing.T) {
	in, src, dst, out, closeAll := pipeEnds(t)
	defer closeAll()
	p := newPipe(src, dst)
	ran := make(chan error, 1)
	go func() { ran <- p.run() }()
	chunk := make([]byte, 1<<20)
	sent := 0
	for { // until nothing goes in any more
		require.NoError(t, in.SetWriteDeadline(time.Now().Add(200*time.Millisecond)))
		n, err := in.Write(chunk)
		sent += n
		if err != nil {
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			break
		}
	}
	start := time.Now()
	for range 1000 {
		s := testStage(p, "latency", ours("latency", `{"latency": 1}`))
		p.set(func(ss []*stage) []*stage { return append(ss, s) })
		p.set(func(ss []*stage) []*stage { return slices.DeleteFunc(ss, func(x *stage) bool { return x == s }) })
	}
	require.Less(t, time.Since(start), 10*time.Second, "no change waits for the peer")
	require.NoError(t, in.CloseWrite())
	n, err := io.Copy(io.Discard, out)
	require.NoError(t, err)
	require.Equal(t, int64(sent), n)
	require.NoError(t, <-ran)
}

// TestPipeEndsWithItsPeers resets one end while a toxic holds bytes back.
func TestPipeEndsWithItsPeers(t *testing.T) {
	for _, who := range []string{"source", "destination"} {
		in, src, dst, out, closeAll := pipeEnds(t)
		p := newPipe(src, dst)
		s := testStage(p, "latency", ours("latency", `{"latency": 20}`))
		p.set(func([]*stage) []*stage { return []*stage{s} })
		ran := make(chan error, 1)
		go func() { ran <- p.run() }()
		_, err := in.Write([]byte("x"))
		require.NoError(t, err)
		if who == "source" {
			_, err = io.ReadFull(out, make([]byte, 1))
			require.NoError(t, err)
			abort(in)
		} else {
			abort(out)
			for err == nil { // the write that finds out is one of the next
				_, err = in.Write([]byte("y"))
				select {
				case e := <-ran:
					ran <- e
					err = e
				default:
				}
			}
		}
		err = <-ran
		require.True(t, isReset(err), "%s: %v", who, err)
		closeAll()
	}
}

func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
